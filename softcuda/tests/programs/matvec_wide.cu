// y = A x with 256-bit loads and packed pairs of f32, as sm_100 has them: a warp for each row, eight
// columns for a lane at a time. cols is a multiple of 8.

typedef unsigned long long pair;

struct eight {
    pair p[4];
};

__device__ __forceinline__ eight load(const float *at) {
    eight v;
    asm volatile("ld.global.v4.b64 {%0, %1, %2, %3}, [%4];" // bug 1: misaligned // bug 2: out of bounds
                 : "=l"(v.p[0]), "=l"(v.p[1]), "=l"(v.p[2]), "=l"(v.p[3])
                 : "l"(at));
    return v;
}

__device__ __forceinline__ pair fma2(pair a, pair b, pair c) {
    pair d;
    asm("fma.rn.f32x2 %0, %1, %2, %3;" : "=l"(d) : "l"(a), "l"(b), "l"(c));
    return d;
}

__device__ __forceinline__ pair add2(pair a, pair b) {
    pair d;
    asm("add.rn.f32x2 %0, %1, %2;" : "=l"(d) : "l"(a), "l"(b));
    return d;
}

extern "C" __global__ void matvec(float *y, const float *a, const float *x, int rows, int cols) {
    int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    pair sums[4] = {0, 0, 0, 0};
    for (int i = 8 * threadIdx.x; i < cols; i += 256) {
        eight v = load(a + (size_t)row * cols + i), w = load(x + i);
#pragma unroll
        for (int k = 0; k < 4; k++) sums[k] = fma2(v.p[k], w.p[k], sums[k]);
    }
    pair sum = add2(add2(sums[0], sums[1]), add2(sums[2], sums[3]));
    float low, high;
    asm("mov.b64 {%0, %1}, %2;" : "=f"(low), "=f"(high) : "l"(sum));
    low += high;
    for (int by = 16; by > 0; by >>= 1) low += __shfl_xor_sync(0xffffffff, low, by);
    if (threadIdx.x == 0) y[row] = low;
}
