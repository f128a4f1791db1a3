// Dot product in one launch: the block that is last to count itself adds what all blocks left. The
// fence makes a block's sum visible before its ticket.

extern "C" __global__ void dot(float *result, volatile float *partial, unsigned *tickets, const float *x, const float *y,
                               int n) {
    extern __shared__ float sums[];
    __shared__ bool last;
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        sum = fmaf(x[i], y[i], sum); // bug 2: use after free // bug 3: out of bounds
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sums[0];
        __threadfence();
        last = atomicInc(tickets, gridDim.x - 1) == gridDim.x - 1; // bug 1: uninitialised
    }
    __syncthreads();
    if (!last) return; // bug 1: uninitialised
    sum = 0;
    for (int i = threadIdx.x; i < gridDim.x; i += blockDim.x) sum += partial[i];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 1; i < blockDim.x; i++) sum += sums[i];
        *result = sum;
    }
}

// The same with ordinary stores and loads on both sides of the fences.
extern "C" __global__ void count_positive(unsigned *result, unsigned *partial, unsigned *tickets, const float *x,
                                          int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int block = __syncthreads_count(i < n && x[i] > 0);
    if (threadIdx.x != 0) return;
    partial[blockIdx.x] = block; // bug 4: global race
#if BUG != 4
    __threadfence();
#endif
    if (atomicAdd(tickets, 1u) + 1 != gridDim.x) return;
    __threadfence();
    unsigned sum = 0;
#if BUG == 5
    for (int b = 0; b < gridDim.x; b++) sum += __ldg(partial + b); // bug 5: read-only load
#else
    for (int b = 0; b < gridDim.x; b++) sum += partial[b]; // bug 4: global race
#endif
    *result = sum;
}
