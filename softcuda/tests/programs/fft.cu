// Fourier transform of lists of 2^k complex numbers in shared memory: bit reversal, then butterflies
// with twiddles by sincospif; a thread for each pair.

extern "C" __global__ void fft(float2 *data, int bits, float sign) {
    extern __shared__ float2 x[];
    int n = 1 << bits, t = threadIdx.x;
    data += (size_t)blockIdx.x * n;
    for (int i = t; i < n; i += blockDim.x) x[__brev(i) >> (32 - bits)] = data[i]; // bug 1: shared race
    for (int half = 1; half < n; half *= 2) {
#if BUG == 1
        if (half >= 64) __syncthreads(); // as if a warp's threads went in step
#else
        __syncthreads();
#endif
        int k = t & (half - 1), low = 2 * (t - k) + k, high = low + half;
        float s, c;
        sincospif(sign * k / half, &s, &c);
        float2 a = x[low], b = x[high]; // bug 1: shared race
        b = {b.x * c - b.y * s, b.x * s + b.y * c};
        x[low] = {a.x + b.x, a.y + b.y}; // bug 1: shared race
        x[high] = {a.x - b.x, a.y - b.y}; // bug 1: shared race
    }
#if BUG == 2
    if (t % 2 == 0) __syncwarp(0xaaaaaaaa); // bug 2: bad member mask
#endif
    __syncthreads();
    for (int i = t; i < n; i += blockDim.x) data[i] = x[i];
}
