// Regime "warp": one warp per row, the row in registers.
//
// Contract: scores, labels and mask are read once, the gradient and the loss written once; nothing
// else is materialised. No block barrier, no shared memory: the warps of a block share nothing.
// Rows of at most 32 * PACKS packs and fewer than 2 V edge elements. grid = ceil(rows / 4), block = 128.
#include "pairs.cuh"
#include "registers.cuh"

constexpr int WARPS = 4, PACKS = 4;

#define KERNEL(NAME, S, L)                                                                                \
    extern "C" __global__ void __launch_bounds__(32 * WARPS) zlpr_warp_##NAME(const Args args) {          \
        u64 row = (u64)blockIdx.x * WARPS + threadIdx.x / 32; /* 64-bit: up to 2^31 blocks of 4 rows */   \
        if (row >= args.rows) return;                                                                     \
        Warp warp;                                                                                        \
        registers_row<Row<S, Dense<L>, int>, Warp, PACKS>(args, warp, row);                               \
    }
ZLPR_FOR_EACH_PAIR(KERNEL)
