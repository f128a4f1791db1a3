// Intrinsics and library functions of CUDA, one kernel for each kind of argument. Compile with
//   nvrtc --gpu-architecture=compute_XX --std=c++17 --device-int128

#define EACH(n) int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;

extern "C" __global__ void singles(float* out, const float* in, int n) {
    EACH(n)
    float x = in[i];
    float* o = out + 12 * i;
    o[0] = sinf(x);
    o[1] = cosf(x);
    o[2] = expf(x);
    o[3] = logf(fabsf(x));
    o[4] = tanhf(x);
    o[5] = erff(x);
    o[6] = powf(fabsf(x), 1.7f);
    o[7] = cbrtf(x);
    o[8] = atan2f(x, 0.5f);
    o[9] = fmodf(x, 0.75f);
    o[10] = __fadd_rz(x, 0.1f) + __fmul_ru(x, 3.0f) - __fdiv_rd(x, 7.0f);
    o[11] = rsqrtf(fabsf(x)) + __fsqrt_rn(fabsf(x)) + __frcp_rn(x);
}

extern "C" __global__ void doubles(double* out, const double* in, int n) {
    EACH(n)
    double x = in[i];
    double* o = out + 8 * i;
    o[0] = sin(x);
    o[1] = exp(x);
    o[2] = log(fabs(x));
    o[3] = pow(fabs(x), 1.7);
    o[4] = tanh(x);
    o[5] = x / 7.3 + sqrt(fabs(x));
    o[6] = erf(x);
    o[7] = __dadd_rz(x, 0.1) - __dmul_ru(x, 3.0) + 1.0 / x;
}

extern "C" __global__ void integers(unsigned* out, const unsigned* in, int n) {
    EACH(n)
    unsigned a = in[3 * i], b = in[3 * i + 1], c = in[3 * i + 2];
    unsigned* o = out + 16 * i;
    // NVRTC 12.1 declares their functions without a definition.
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(o[0]) : "r"(a), "r"(b), "r"(c));
    asm("dp2a.lo.u32.u32 %0, %1, %2, %3;" : "=r"(o[1]) : "r"(a), "r"(b), "r"(c));
    asm("dp2a.hi.s32.s32 %0, %1, %2, %3;" : "=r"(o[2]) : "r"(a), "r"(b), "r"(c));
    o[3] = __byte_perm(a, b, c);
    o[4] = __funnelshift_lc(a, b, c);
    o[5] = __funnelshift_r(a, b, c);
    o[6] = __vabsdiffu4(a, b);
    o[7] = __vsadu2(a, b);
    o[8] = __ffs(a) + __clz(b) + __popc(c);
    o[9] = __brev(a) ^ __umulhi(b, c) ^ __mulhi((int)a, (int)c);
    o[10] = __uhadd(a, b) + __rhadd((int)b, (int)c);
    o[11] = __usad(a, b, c);
    o[12] = a / (b | 1) + a % (c | 1);
    o[13] = (int)a / (int)(b | 1) + (int)a % (int)(c | 1);
    o[14] = __viaddmax_s32_relu((int)a, (int)b, (int)c);
    o[15] = __vimin3_s16x2(a, b, c);
}

extern "C" __global__ void wide(__int128* out, const __int128* in, int n) {
    EACH(n)
    __int128 a = in[2 * i], b = in[2 * i + 1];
    __int128* o = out + 6 * i;
    o[0] = a + b;
    o[1] = a - b;
    o[2] = a * b;
    o[3] = a / b;
    o[4] = (__int128)((unsigned __int128)a % (unsigned __int128)b);
    o[5] = (a >> (int)(b & 127)) ^ (a << (int)(b & 63));
}

typedef float (*Function)(float, float);
__device__ float sum(float a, float b) { return a + b; }
__device__ float product(float a, float b) { return a * b; }
__device__ __noinline__ float power(float a, float b) { float p = 1; for (int i = 0; i < (int)b; i++) p *= a; return p; }
__device__ Function functions[3] = {sum, product, power};
__constant__ float weights[4] = {1, 0.5f, 0.25f, 0.125f};

extern "C" __global__ void choices(float* out, const float* in, int n) {
    EACH(n)
    float x = functions[i % 3](in[i], 3.0f);
    switch (i % 11) {
        case 0: x += weights[i & 3]; break;
        case 1: x *= 2; break;
        case 2: x = -x; break;
        case 3: x -= 7; out[n + i] = x; break;
        case 4: x = x * x; break;
        case 5: out[n + i] = 1; x += 5; break;
        case 6: x *= weights[2]; break;
        case 7: x = x < 0 ? 0 : x; break;
        case 8: x = 1 - x; break;
        default: x = 9;
    }
    out[i] = x;
}
