// Regime "two_pass": one block per row, for rows that fit nowhere on chip, and for forward only.
//
// Contract: forward only reads scores, labels and mask once; with the gradient they are read twice, the
// second time from L2 as far as the row fits there. Any number of columns. Nothing is stored before
// the barrier of the reduction, so the gradient may overwrite the scores. grid = rows, block = 512.
#include "pairs.cuh"
#include "stream.cuh"

constexpr int THREADS = 512;

struct NoStash {
    template <class Packet> __device__ __forceinline__ void put(i64, const Packet&) {}
    template <class Row> __device__ __forceinline__ typename Row::Packet get(const Row& row, i64 k) const {
        return row.fetch(k);
    }
};

// i64: a row of this regime may have more than 2^31 columns.
#define KERNEL(NAME, S, L)                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS) zlpr_two_pass_##NAME(const Args args) { \
        Block block;                                                                             \
        NoStash stash;                                                                           \
        stream_row<Row<S, Dense<L>, i64>>(args, block, stash, blockIdx.x);                       \
    }
ZLPR_FOR_EACH_PAIR(KERNEL)
