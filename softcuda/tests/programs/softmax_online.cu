// Softmax in two passes: the maximum and the sum together, rescaled whenever the maximum grows. A
// warp for a short row, a block for a long one, and both with a scale given.

struct state {
    float most, sum;
};

__device__ __forceinline__ state join(state a, state b) {
    float most = fmaxf(a.most, b.most);
    float scale_a = a.most == most ? 1.f : __expf(a.most - most), scale_b = b.most == most ? 1.f : __expf(b.most - most);
    return {most, a.sum * scale_a + b.sum * scale_b};
}

__device__ __forceinline__ state join_warp(state s) {
    for (int by = 16; by > 0; by >>= 1)
        s = join(s, {__shfl_xor_sync(~0u, s.most, by), __shfl_xor_sync(~0u, s.sum, by)});
    return s;
}

__device__ __forceinline__ float nothing() { return __int_as_float(0xff800000); }

extern "C" __global__ void softmax_rows(float *y, const float *x, int rows, int cols, float scale) {
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x & 31;
    if (row >= rows) return;
    const float *in = x + row * cols;
    state s = {nothing(), 0.f};
    for (int i = lane; i < cols; i += 32) s = join(s, {in[i] * scale, 1.f});
    s = join_warp(s);
    for (int i = lane; i < cols; i += 32) y[row * cols + i] = __expf(in[i] * scale - s.most) / s.sum;
}

extern "C" __global__ void softmax_block(float *y, const float *x, int cols, float scale) {
    extern __shared__ state warps[];
    const float *in = x + (size_t)blockIdx.x * cols;
    state s = {nothing(), 0.f};
    for (int i = threadIdx.x; i < cols; i += blockDim.x) s = join(s, {in[i] * scale, 1.f});
    s = join_warp(s);
#if BUG == 1
    warps[threadIdx.x] = s; // bug 1: out of bounds
#else
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = s; // bug 2: out of bounds
#endif
    __syncthreads();
    s = {nothing(), 0.f};
    for (int w = 0; w < blockDim.x / 32; w++) s = join(s, warps[w]);
#if BUG == 3
    if (threadIdx.x + blockDim.x * (cols / blockDim.x) < cols) __syncthreads(); // bug 3: barrier divergence
#endif
    float inverse = 1.f / s.sum;
    for (int i = threadIdx.x; i < cols; i += blockDim.x)
        y[(size_t)blockIdx.x * cols + i] = __expf(in[i] * scale - s.most) * inverse;
}
