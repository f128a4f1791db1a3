// Regime "block": one block per row, the row in registers.
//
// Contract: scores, labels and mask are read once, the gradient and the loss written once; nothing
// else is materialised. One block barrier per row. Rows of at most blockDim.x * PACKS packs.
// grid = rows, block = 128, 256 or 512.
#include "pairs.cuh"
#include "registers.cuh"

constexpr int MAX_THREADS = 512, PACKS = 4;

#define KERNEL(NAME, S, L)                                                                       \
    extern "C" __global__ void __launch_bounds__(MAX_THREADS) zlpr_block_##NAME(const Args args) { \
        Block block;                                                                             \
        registers_row<Row<S, Dense<L>, int>, Block, PACKS>(args, block, blockIdx.x);             \
    }
ZLPR_FOR_EACH_PAIR(KERNEL)
