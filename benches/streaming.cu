// What the bench holds the loss against: a kernel that moves as many bytes by the same widths, and computes nothing.
//
// For each 16 bytes of scores: one 16-byte load of scores, the labels of the same elements (4, 8 or 16 bytes), one
// 16-byte store of the gradient, and 4 bytes of loss per row. Everything is coalesced; there are no rows, no barriers
// and no reuse. It stores the scores as they were read, so that scores that it overwrites stay scores.

typedef unsigned int u32;
typedef unsigned long long u64;

namespace {

constexpr u32 THREADS = 256;
// Packs of 16 bytes of scores per thread: 128 bytes in flight in each thread are far more than any GPU needs.
constexpr u32 PACKS = 4;

// Volatile, so that a load whose value decides nothing is neither dropped nor moved to a later use of it. Not `.nc`: the
// gradient may overwrite the scores.
__device__ __forceinline__ void load(u32 (&to)[4], const char* from) {
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "l"(from));
}

__device__ __forceinline__ void load(u32 (&to)[2], const char* from) {
    asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "l"(from));
}

__device__ __forceinline__ void load(u32 (&to)[1], const char* from) {
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(to[0]) : "l"(from));
}

__device__ __forceinline__ void store(char* to, const u32 (&from)[4]) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3]) : "memory");
}

struct Arguments {
    const char* scores;
    const char* labels;
    // Null: only the inputs are read.
    char* gradient;
    u32* loss;
    u64 packs;
    u64 rows;
};

// Moves one block's packs; what it read, folded. LABELS: 32-bit words of labels for 16 bytes of scores. WHOLE: all of the
// block's packs exist, so that all loads are on their way before anything waits.
template <u32 LABELS, bool WHOLE> __device__ __forceinline__ u32 move(const Arguments& args) {
    u64 first = u64(blockIdx.x) * (THREADS * PACKS) + threadIdx.x;
    u32 s[PACKS][4] = {}, t[PACKS][LABELS] = {};
#pragma unroll
    for (u32 k = 0; k < PACKS; k++) {
        u64 pack = first + k * THREADS;
        if (WHOLE || pack < args.packs) {
            load(s[k], args.scores + pack * 16);
            load(t[k], args.labels + pack * (LABELS * 4));
        }
    }
    u32 sum = s[0][0];
#pragma unroll
    for (u32 k = 0; k < PACKS; k++) {
        u64 pack = first + k * THREADS;
        if (args.gradient != nullptr && (WHOLE || pack < args.packs)) store(args.gradient + pack * 16, s[k]);
#pragma unroll
        for (u32 w = 0; w < LABELS; w++) sum ^= t[k][w];
    }
    return sum;
}

template <u32 LABELS> __device__ __forceinline__ void stream(const Arguments& args) {
    bool whole = u64(blockIdx.x + 1) * (THREADS * PACKS) <= args.packs;
    u32 sum = whole ? move<LABELS, true>(args) : move<LABELS, false>(args);
    u64 threads = u64(gridDim.x) * THREADS;
    for (u64 row = u64(blockIdx.x) * THREADS + threadIdx.x; row < args.rows; row += threads) args.loss[row] = sum;
}

}  // namespace

#define STREAM(LABEL_BYTES)                                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS) stream_##LABEL_BYTES(                                        \
        const char* scores, const char* labels, char* gradient, u32* loss, u64 packs, u64 rows) {                      \
        stream<LABEL_BYTES / 4>({scores, labels, gradient, loss, packs, rows});                                        \
    }

STREAM(4)
STREAM(8)
STREAM(16)
