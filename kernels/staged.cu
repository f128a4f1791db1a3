// Regime "staged": one block per row, the row staged in dynamic shared memory.
//
// Contract: scores, labels and mask are read once from global memory, the gradient and the loss
// written once. Shared memory holds scores (with the mask folded in) and labels, 16 bytes of scores
// per pack, so they are aligned whatever the row's alignment was; edges stay in registers. A thread reads back only what it wrote
// itself, so the reduction's barrier is the only one. grid = rows, block = 512,
// dynamic shared memory = cols / V * sizeof(Packet).
#include "pairs.cuh"
#include "stream.cuh"

constexpr int THREADS = 512;

// All scores first, then all labels: neighbouring threads touch neighbouring 16 bytes.
template <class Row> struct SharedStash {
    typedef typename Row::Packet Packet;
    static constexpr int SCORES = sizeof(Packet::scores), LABELS = sizeof(Packet::labels);
    unsigned char* scores;
    unsigned char* labels;
    __device__ __forceinline__ SharedStash(unsigned char* storage, u64 packs)
        : scores(storage), labels(storage + packs * SCORES) {}
    __device__ __forceinline__ void put(int k, const Packet& packet) {
        packet.scores.store_wide(scores + k * SCORES);
        packet.labels.store_wide(labels + k * LABELS);
    }
    __device__ __forceinline__ Packet get(const Row&, int k) const {
        Packet packet;
        packet.scores.load_wide(scores + k * SCORES);
        packet.labels.load_wide(labels + k * LABELS);
        return packet;
    }
};

template <class Row> __device__ __forceinline__ void staged_row(const Args& args) {
    extern __shared__ uint4 storage[];
    Block block;
    SharedStash<Row> stash((unsigned char*)storage, args.cols / Row::V);
    stream_row<Row>(args, block, stash, blockIdx.x);
}

#define KERNEL(NAME, S, L)                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS) zlpr_staged_##NAME(const Args args) { \
        staged_row<Row<S, Dense<L>, int>>(args);                                               \
    }
ZLPR_FOR_EACH_PAIR(KERNEL)
