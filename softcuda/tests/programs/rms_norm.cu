// Root-mean-square normalisation of rows of halves: eight in a 128-bit load, pairs in f16x2
// arithmetic, a warp for each row, several rows in a block. cols is a multiple of 8.

typedef unsigned int u32;

struct __align__(16) eight {
    u32 pairs[4];
};

__device__ __forceinline__ float2 widen(u32 pair) {
    float2 v;
    asm("{ .reg .f16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high; }"
        : "=f"(v.x), "=f"(v.y)
        : "r"(pair));
    return v;
}

__device__ __forceinline__ u32 pair_of(float low, float high) {
    u32 pair;
    asm("{ .reg .f16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h}; }"
        : "=r"(pair)
        : "f"(low), "f"(high));
    return pair;
}

__device__ __forceinline__ u32 mul(u32 a, u32 b) {
    u32 d;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}

extern "C" __global__ void rms_norm(unsigned short *y, const unsigned short *x, const unsigned short *gain, int rows,
                                    int cols, float epsilon) {
    int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    const eight *in = (const eight *)(x + (size_t)row * cols);
    const eight *scale = (const eight *)gain;
    eight *out = (eight *)(y + (size_t)row * cols);
    float sum = 0;
    for (int i = threadIdx.x; i < cols / 8; i += 32) {
        eight v = in[i]; // bug 1: misaligned
        for (int k = 0; k < 4; k++) {
            float2 f = widen(v.pairs[k]);
            sum += f.x * f.x + f.y * f.y;
        }
    }
    for (int by = 1; by < 32; by *= 2) sum += __shfl_xor_sync(0xffffffff, sum, by);
    float inverse = rsqrtf(sum / cols + epsilon);
    for (int i = threadIdx.x; i < cols / 8; i += 32) {
        eight v = in[i], g = scale[i], o; // bug 2: misaligned
        for (int k = 0; k < 4; k++) {
            float2 f = widen(v.pairs[k]);
            o.pairs[k] = mul(pair_of(f.x * inverse, f.y * inverse), g.pairs[k]);
        }
        out[i] = o; // bug 3: misaligned
    }
}
