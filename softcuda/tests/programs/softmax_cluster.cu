// Softmax of long rows by clusters: each block finds its maximum and sum, sends them to all blocks
// with st.async, which count the bytes on a barrier of their own.

typedef unsigned long long u64;

enum { MOST_BLOCKS = 8 };

__device__ __forceinline__ unsigned rank() {
    unsigned r;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return r;
}
__device__ __forceinline__ unsigned blocks() {
    unsigned n;
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(n));
    return n;
}
__device__ __forceinline__ unsigned at(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ __forceinline__ unsigned map(unsigned p, unsigned block) {
    unsigned q;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(q) : "r"(p), "r"(block));
    return q;
}
__device__ __forceinline__ float2 join(float2 a, float2 b) {
    float most = fmaxf(a.x, b.x);
    return {most, a.y * __expf(a.x - most) + b.y * __expf(b.x - most)};
}

extern "C" __global__ void softmax(float *out, const float *in, int cols) {
    __shared__ __align__(16) float2 received[MOST_BLOCKS];
    __shared__ __align__(8) u64 barrier;
    __shared__ float2 warps[32];
    int t = threadIdx.x, row = blockIdx.x / blocks(), part = (cols + blocks() - 1) / blocks();
    const float *x = in + (size_t)row * cols;
    int begin = rank() * part, end = min(begin + part, cols);
    if (t == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at(&barrier)) : "memory");
        int bytes = blocks() * 8;
#if BUG == 1
        bytes -= 8;
#elif BUG == 2
        bytes += 8;
#endif
        asm volatile("{ .reg .b64 s; mbarrier.arrive.expect_tx.shared::cta.b64 s, [%0], %1; }"
                     ::"r"(at(&barrier)), "r"(bytes) : "memory");
    }
    // Barriers are ready before anyone sends.
    asm volatile("fence.mbarrier_init.release.cluster;\n\tbarrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory");
    float2 own = {-1e30f, 0.f};
    for (int i = begin + t; i < end; i += blockDim.x) own = join(own, {x[i], 1.f});
    for (int by = 16; by > 0; by /= 2)
        own = join(own, {__shfl_xor_sync(~0u, own.x, by), __shfl_xor_sync(~0u, own.y, by)});
    if (t % 32 == 0) warps[t / 32] = own;
    __syncthreads();
    own = warps[0];
    for (int w = 1; w < blockDim.x / 32; w++) own = join(own, warps[w]);
    // Thread b sends to block b.
    if (t < blocks()) {
        unsigned to = map(at(&received[rank()]), t), signal = map(at(&barrier), t);
        u64 bits = (u64)__float_as_uint(own.y) << 32 | __float_as_uint(own.x);
        asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b64 [%0], %1, [%2];"
                     ::"r"(to), "l"(bits), "r"(signal) : "memory");
    }
#if BUG == 3 || BUG == 4 // all have sent, which does not say that all has come
    asm volatile("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory");
#endif
#if BUG == 3
    if (t < 32)
#elif BUG == 4
    if (rank() != 0)
#endif
        asm volatile("{ .reg .pred done; AGAIN: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], 0; " // bug 2: wrong transaction count
                     "@!done bra AGAIN; }" ::"r"(at(&barrier)) : "memory"); // bug 2: wrong transaction count
    float2 all = received[0]; // bug 1: missing bulk wait // bug 3: missing bulk wait // bug 4: missing bulk wait
    for (unsigned b = 1; b < blocks(); b++) all = join(all, received[b]); // bug 1: missing bulk wait // bug 3: missing bulk wait // bug 4: missing bulk wait
    for (int i = begin + t; i < end; i += blockDim.x) out[(size_t)row * cols + i] = __expf(x[i] - all.x) / all.y; // bug 1: uninitialised
    // st.async to a block that has exited would be lost.
    asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory");
}
