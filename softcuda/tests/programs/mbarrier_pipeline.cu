// A producer warp and consumer warps with mbarriers: the producer fills a ring of stages, consumers
// add what is in them. Each stage has a barrier that says full and one that says empty.

enum { STAGES = 2, TILE = 64 };

struct barrier {
    unsigned long long word;

    __device__ unsigned at() { return (unsigned)__cvta_generic_to_shared(&word); }
    __device__ void init(int count) { asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(at()), "r"(count) : "memory"); }
    __device__ void arrive() {
        unsigned long long state;
        asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(state) : "r"(at()) : "memory");
    }
    // When the copies that the thread has begun are complete; `.noinc` as they are among those counted.
    __device__ void arrive_after_copies() {
#if BUG == 8
        asm volatile("cp.async.mbarrier.arrive.shared.b64 [%0];" ::"r"(at()) : "memory");
#else
        asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(at()) : "memory");
#endif
    }
    // Phases are told apart by their parity.
    __device__ void wait(unsigned parity) {
        unsigned done;
        do {
            unsigned long long state;
            asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" // bug 1: deadlock // bug 2: deadlock // bug 4: deadlock // bug 8: deadlock
                         : "=r"(done) // bug 1: deadlock // bug 2: deadlock // bug 4: deadlock // bug 8: deadlock
                         : "r"(at()), "r"(parity) // bug 1: deadlock // bug 2: deadlock // bug 4: deadlock // bug 8: deadlock
                         : "memory"); // bug 1: deadlock // bug 2: deadlock // bug 4: deadlock // bug 8: deadlock
        } while (!done); // bug 1: deadlock // bug 2: deadlock // bug 4: deadlock // bug 8: deadlock
    }
};

template <bool copies> __device__ void sum(float *out, const float *in, int tiles) {
    __shared__ float stage[STAGES][TILE];
    __shared__ barrier full[STAGES], empty[STAGES];
    int t = threadIdx.x, consumers = blockDim.x - 32;
    in += (size_t)blockIdx.x * tiles * TILE;
    if (t == 0) {
        for (int s = 0; s < STAGES; s++) {
            full[s].init(32);
#if BUG == 4
            empty[s].init(consumers + 32);
#else
            empty[s].init(consumers);
#endif
        }
    }
    __syncthreads();
    if (t < 32) {
        for (int tile = 0; tile < tiles; tile++) {
            int s = tile % STAGES, round = tile / STAGES;
#if BUG != 3
            if (round > 0) empty[s].wait((round - 1) & 1);
#endif
            if (copies) {
                unsigned to = (unsigned)__cvta_generic_to_shared(&stage[s][2 * t]);
                asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to), "l"(in + tile * TILE + 2 * t) : "memory"); // bug 7: missing cp.async wait
#if BUG == 7 // which says that they have begun
                full[s].arrive();
#else
                full[s].arrive_after_copies();
#endif
                continue;
            }
            for (int i = t; i < TILE; i += 32) stage[s][i] = in[tile * TILE + i]; // bug 3: missing mbarrier wait // bug 5: missing mbarrier wait // bug 6: shared race
#if BUG == 3 // too late: the stage is written
            if (round > 0) empty[s].wait((round - 1) & 1);
#endif
#if BUG == 1
            if (t != 0)
#endif
                full[s].arrive();
        }
    } else {
        float sum = 0;
        for (int tile = 0; tile < tiles; tile++) {
            int s = tile % STAGES, round = tile / STAGES;
#if BUG == 2
            full[s].wait((round + 1) & 1); // waits for the phase before, then for one that never comes
            full[s].wait(round & 1);
            full[s].wait((round + 1) & 1);
#elif BUG != 5
            full[s].wait(round & 1);
#endif
#if BUG == 6 // the producer may begin, but the stage is still to be read
            empty[s].arrive();
#endif
            for (int i = t - 32; i < TILE; i += consumers) sum += stage[s][i]; // bug 3: missing mbarrier wait // bug 5: missing mbarrier wait // bug 6: shared race // bug 7: missing cp.async wait
#if BUG == 5 // too late: the stage is read
            full[s].wait(round & 1);
#endif
#if BUG != 6
            empty[s].arrive();
#endif
        }
        atomicAdd(&out[blockIdx.x], sum);
    }
}

extern "C" __global__ void sum_tiles(float *out, const float *in, int tiles) { sum<false>(out, in, tiles); }

// The producer need not wait for what it loads.
extern "C" __global__ void sum_tiles_async(float *out, const float *in, int tiles) { sum<true>(out, in, tiles); }
