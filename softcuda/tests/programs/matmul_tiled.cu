// Tiled matrix products C = A B, row-major: f32 with edges, f64 with edges and a scale, f16 pairs
// in packed arithmetic with f32 sums per tile.

template <class T, int TILE>
__device__ __forceinline__ void multiply(T *c, const T *a, const T *b, int m, int n, int k, T alpha, T beta) {
    __shared__ T tile_a[TILE][TILE], tile_b[TILE][TILE];
    int tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * TILE + ty, col = blockIdx.x * TILE + tx;
    T sum = 0;
    for (int first = 0; first < k; first += TILE) {
#if BUG == 3
        tile_a[ty][tx] = row < m ? a[row * k + first + tx] : T(0); // bug 3: out of bounds
#else
        tile_a[ty][tx] = row < m && first + tx < k ? a[row * k + first + tx] : T(0); // bug 1: shared race // bug 2: shared race
#endif
        tile_b[ty][tx] = first + ty < k && col < n ? b[(first + ty) * n + col] : T(0); // bug 1: shared race // bug 2: shared race
#if BUG != 1
        __syncthreads();
#endif
#pragma unroll
        for (int i = 0; i < TILE; i++) sum += tile_a[ty][i] * tile_b[i][tx]; // bug 1: shared race // bug 2: shared race
#if BUG != 2
        __syncthreads();
#endif
    }
    if (row < m && col < n)
        c[row * n + col] = alpha * sum + (beta != T(0) ? beta * c[row * n + col] : T(0)); // bug 4: uninitialised
}

extern "C" __global__ void multiply_f32(float *c, const float *a, const float *b, int m, int n, int k) {
    multiply<float, 16>(c, a, b, m, n, k, 1.f, 0.f);
}

extern "C" __global__ void multiply_f64(double *c, const double *a, const double *b, int m, int n, int k, double alpha,
                                        double beta) {
    multiply<double, 8>(c, a, b, m, n, k, alpha, beta);
}

typedef unsigned int half2_bits;

__device__ __forceinline__ half2_bits fma2(half2_bits a, half2_bits b, half2_bits c) {
    half2_bits d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

__device__ __forceinline__ half2_bits twice(unsigned short h) {
    half2_bits d;
    asm("mov.b32 %0, {%1, %1};" : "=r"(d) : "h"(h));
    return d;
}

// n is even: b and c are rows of n / 2 pairs. A block is 16 x 16 threads, two columns each.
extern "C" __global__ void multiply_f16x2(half2_bits *c, const unsigned short *a, const half2_bits *b, int m, int n,
                                          int k) {
    __shared__ unsigned short tile_a[16][16];
    __shared__ half2_bits tile_b[16][16];
    int tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * 16 + ty, col = blockIdx.x * 16 + tx;
    float low = 0, high = 0;
    for (int first = 0; first < k; first += 16) {
        tile_a[ty][tx] = row < m && first + tx < k ? a[row * k + first + tx] : 0;
        tile_b[ty][tx] = first + ty < k && col < n / 2 ? b[(first + ty) * (n / 2) + col] : 0;
        __syncthreads();
        half2_bits part = 0;
        for (int i = 0; i < 16; i++) part = fma2(twice(tile_a[ty][i]), tile_b[i][tx], part);
        float2 wide;
        asm("{ .reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
            : "=f"(wide.x), "=f"(wide.y)
            : "r"(part));
        low += wide.x, high += wide.y;
        __syncthreads();
    }
    half2_bits result;
    asm("{ .reg .b16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h}; }"
        : "=r"(result)
        : "f"(low), "f"(high));
    if (row < m && col < n / 2) c[row * (n / 2) + col] = result;
}
