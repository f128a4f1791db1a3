// 128-bit arithmetic: the compiler's __int128, carry chains by hand, products modulo a prime, and a
// power by squaring.

typedef unsigned long long u64;
typedef unsigned __int128 u128;

extern "C" __global__ void arithmetic(u64 *out, const u64 *a, const u64 *b, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    u128 x = (u128)a[2 * i + 1] << 64 | a[2 * i], y = (u128)b[2 * i + 1] << 64 | b[2 * i];
    u128 results[6] = {x + y, x - y, x * y, x >> (b[2 * i] % 127), (u128)((__int128)x >> 67), x / (y >> 70 | 3)};
    for (int k = 0; k < 6; k++) {
        out[(6 * i + k) * 2] = (u64)results[k];
        out[(6 * i + k) * 2 + 1] = (u64)(results[k] >> 64);
    }
}

// Sums of numbers of 8 words, by carry chains; the carry out is the ninth word.
extern "C" __global__ void add_long(unsigned *out, const unsigned *a, const unsigned *b, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned r[9];
    a += 8 * i, b += 8 * i;
    asm("{\n\tadd.cc.u32 %0, %9, %17;\n\taddc.cc.u32 %1, %10, %18;\n\taddc.cc.u32 %2, %11, %19;\n\t"
        "addc.cc.u32 %3, %12, %20;\n\taddc.cc.u32 %4, %13, %21;\n\taddc.cc.u32 %5, %14, %22;\n\t"
        "addc.cc.u32 %6, %15, %23;\n\taddc.cc.u32 %7, %16, %24;\n\taddc.u32 %8, 0, 0;\n\t}"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]), "=r"(r[4]), "=r"(r[5]), "=r"(r[6]), "=r"(r[7]), "=r"(r[8])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(a[4]), "r"(a[5]), "r"(a[6]), "r"(a[7]), "r"(b[0]), "r"(b[1]),
          "r"(b[2]), "r"(b[3]), "r"(b[4]), "r"(b[5]), "r"(b[6]), "r"(b[7]));
    for (int k = 0; k < 9; k++) out[9 * i + k] = r[k];
}

// Powers modulo 2^61 - 1.
__device__ __noinline__ u64 mul_mod(u64 a, u64 b) {
    u64 low = a * b, high = __umul64hi(a, b), m = (1ull << 61) - 1;
    u64 sum = (low & m) + (high << 3 | low >> 61);
    return sum >= m ? sum - m : sum;
}

extern "C" __global__ void powers(u64 *out, const u64 *base, const unsigned *exponent, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    u64 result = 1, b = base[i];
    for (unsigned e = exponent[i]; e != 0; e >>= 1) {
        if (e & 1) result = mul_mod(result, b);
        b = mul_mod(b, b);
    }
    out[i] = result;
}
