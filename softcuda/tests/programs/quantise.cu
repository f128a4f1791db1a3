// Rows of floats to signed bytes with a scale for each row, four in a word, and back; saturating
// conversions; sums by the warp-wide reduction of sm_80; bf16 on the way out.

extern "C" __global__ void quantise(char4 *out, float *scales, int *sums, const float4 *in, int cols4) {
    __shared__ float most_of_warp[8];
    const float4 *row = in + (size_t)blockIdx.x * cols4;
    float most = 0;
    for (int i = threadIdx.x; i < cols4; i += blockDim.x) {
        float4 v = row[i]; // bug 1: misaligned
        most = fmaxf(most, fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w))));
    }
    // Floats that are not negative order as their bits do.
    unsigned bits = __reduce_max_sync(0xffffffff, __float_as_uint(most));
    if (threadIdx.x % 32 == 0) most_of_warp[threadIdx.x / 32] = __uint_as_float(bits);
    __syncthreads();
    most = 0;
    for (int w = 0; w < blockDim.x / 32; w++) most = fmaxf(most, most_of_warp[w]);
    float scale = most > 0 ? 127.f / most : 1.f;
    int sum = 0;
    for (int i = threadIdx.x; i < cols4; i += blockDim.x) {
        float4 v = row[i];
        char4 q = {(signed char)__float2int_rn(v.x * scale), (signed char)__float2int_rn(v.y * scale),
                   (signed char)__float2int_rn(v.z * scale), (signed char)__float2int_rn(v.w * scale)};
        out[(size_t)blockIdx.x * cols4 + i] = q;
        sum += q.x + q.y + q.z + q.w;
    }
    sum = __reduce_add_sync(0xffffffff, sum);
    if (threadIdx.x % 32 == 0) atomicAdd(&sums[blockIdx.x], sum); // bug 2: uninitialised
    if (threadIdx.x == 0) scales[blockIdx.x] = 1 / scale;
}

extern "C" __global__ void dequantise(unsigned short *out, const signed char *in, const float *scales, int cols) {
    for (int i = threadIdx.x; i < cols; i += blockDim.x) {
        float v = in[(size_t)blockIdx.x * cols + i] * scales[blockIdx.x];
        unsigned short h;
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(v));
        out[(size_t)blockIdx.x * cols + i] = h;
    }
}

extern "C" __global__ void saturate(int *out, const float *in, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = in[i];
    int s8, u8;
    unsigned short s16;
    asm("cvt.rni.sat.s8.f32 %0, %1;" : "=r"(s8) : "f"(v));
    asm("cvt.rzi.sat.u8.f32 %0, %1;" : "=r"(u8) : "f"(v));
    asm("cvt.rni.sat.s16.f32 %0, %1;" : "=h"(s16) : "f"(v * 1000));
    out[4 * i] = s8, out[4 * i + 1] = u8, out[4 * i + 2] = (short)s16, out[4 * i + 3] = __float_as_int(__saturatef(v));
}
