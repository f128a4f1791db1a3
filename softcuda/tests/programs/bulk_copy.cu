// Double buffering without tensor maps: one thread starts a bulk copy of a tile and says how many
// bytes to expect, all wait for them; results leave by a bulk copy too.

enum { TILE = 256 };

typedef unsigned long long u64;

__device__ __forceinline__ unsigned at(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void load(float *to, const float *from, int bytes, u64 *barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" // bug 7: misaligned
                 ::"r"(at(to)), "l"(from), "r"(bytes), "r"(at(barrier)) : "memory"); // bug 7: misaligned
}
__device__ __forceinline__ void expect(u64 *barrier, int bytes) {
    asm volatile("{ .reg .b64 s; mbarrier.arrive.expect_tx.shared::cta.b64 s, [%0], %1; }" ::"r"(at(barrier)), "r"(bytes) : "memory");
}
__device__ __forceinline__ void wait(u64 *barrier, int parity) {
    asm volatile("{ .reg .pred done; AGAIN: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; " // bug 4: wrong transaction count // bug 5: wrong transaction count // bug 6: wrong transaction count
                 "@!done bra AGAIN; }" ::"r"(at(barrier)), "r"(parity) : "memory"); // bug 4: wrong transaction count // bug 5: wrong transaction count // bug 6: wrong transaction count // bug 2: deadlock
}

// out = a * in, a whole number of tiles for each block.
extern "C" __global__ void scale(float *out, const float *in, int tiles, float a) {
    __shared__ __align__(128) float inputs[2][TILE];
    __shared__ __align__(128) float outputs[2][TILE];
    __shared__ __align__(8) u64 full[2];
    int t = threadIdx.x, first = blockIdx.x * tiles;
    if (t == 0) {
        for (int s = 0; s < 2; s++) asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at(&full[s])) : "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    auto start = [&](int tile) {
        if (t != 0 || tile >= tiles) return;
#if BUG == 4
        expect(&full[tile & 1], TILE * 4 + 16);
#elif BUG == 5
        expect(&full[tile & 1], TILE); // elements, not bytes // bug 5: wrong transaction count
#elif BUG == 6
        expect(&full[tile & 1], tile == 1 ? 2 * TILE * 4 : TILE * 4);
#else
        expect(&full[tile & 1], TILE * 4);
#endif
        load(inputs[tile & 1], in + (first + tile) * TILE, TILE * 4, &full[tile & 1]); // bug 5: wrong transaction count
    };
    start(0);
    for (int tile = 0; tile < tiles; tile++) {
        start(tile + 1);
#if BUG == 2
        wait(&full[tile & 1], (tile / 2 & 1) ^ 1); // the phase before, which is over
#elif BUG != 1
        wait(&full[tile & 1], tile / 2 & 1);
#endif
        // The output buffer is free when all but the latest store have read theirs.
#if BUG != 3
        if (t == 0) asm volatile("cp.async.bulk.wait_group.read 1;" ::: "memory");
#endif
        __syncthreads();
        for (int i = t; i < TILE; i += blockDim.x)
            outputs[tile & 1][i] = a * inputs[tile & 1][i]; // bug 1: missing bulk wait // bug 2: missing bulk wait // bug 3: missing bulk wait
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncthreads();
        if (t == 0) {
            asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" // bug 3: missing bulk wait
                         ::"l"(out + (first + tile) * TILE), "r"(at(outputs[tile & 1])), "n"(TILE * 4) : "memory");
            asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        }
    }
    if (t == 0) asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}
