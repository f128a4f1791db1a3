// Histograms of bytes: in global memory, and with a private copy for each block (words of four
// bytes, odd ends by themselves).

extern "C" __global__ void by_global_atomics(unsigned *bins, const unsigned char *x, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        atomicAdd(&bins[x[i]], 1u);
}

extern "C" __global__ void by_private_copies(unsigned *bins, const unsigned char *x, int n) {
    __shared__ unsigned own[256];
    for (int bin = threadIdx.x; bin < 256; bin += blockDim.x) own[bin] = 0;
    __syncthreads();
    int thread = blockIdx.x * blockDim.x + threadIdx.x, threads = gridDim.x * blockDim.x;
#if BUG == 1
    const unsigned *words = (const unsigned *)(x + 1);
#else
    const unsigned *words = (const unsigned *)x;
#endif
    for (int i = thread; i < n / 4; i += threads) {
        unsigned word = words[i]; // bug 1: misaligned
        for (int byte = 0; byte < 4; byte++) {
#if BUG == 2
            own[word >> (8 * byte) & 255]++; // bug 2: shared race
#else
            atomicAdd(&own[word >> (8 * byte) & 255], 1u); // bug 3: shared race
#endif
        }
    }
    if (thread < n % 4) atomicAdd(&own[x[n / 4 * 4 + thread]], 1u); // bug 3: shared race
#if BUG != 3
    __syncthreads();
#endif
    for (int bin = threadIdx.x; bin < 256; bin += blockDim.x)
        if (own[bin] != 0) atomicAdd(&bins[bin], own[bin]); // bug 3: shared race
}
