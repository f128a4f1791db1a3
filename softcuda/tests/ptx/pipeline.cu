// Two blocks sum rows that bulk copies bring in, two buffers deep, exchange their sums with
// asynchronous stores, and send what they have left back with a bulk copy.
// Compiled by NVRTC 13.5 for compute_90.
typedef unsigned long long u64;
typedef unsigned u32;

constexpr int THREADS = 256, TILES = 4, BYTES = THREADS * 4;

__device__ __forceinline__ u32 address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ u32 in_block(const void *p, u32 rank) {
    u32 mapped;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address(p)), "r"(rank));
    return mapped;
}

__device__ __forceinline__ void init(u64 *bar) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address(bar)));
}

__device__ __forceinline__ void expect(u64 *bar, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(address(bar)), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void wait(u64 *bar, u32 parity) {
    u32 done = 0;
    while (!done)
        asm volatile("{.reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2, %3; "
                     "selp.u32 %0, 1, 0, p;}"
                     : "=r"(done)
                     : "r"(address(bar)), "r"(parity), "r"(1000)
                     : "memory");
}

__device__ __forceinline__ void meet() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) pipeline(const float *in, float *sums, float *rest) {
    __shared__ alignas(128) float tile[2][THREADS];
    __shared__ alignas(8) u64 full[2];
    __shared__ alignas(8) u64 exchanged;
    __shared__ float of_peer[THREADS / 32];
    u32 rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    const bool leader = threadIdx.x == 0;
    if (leader) {
        init(&full[0]);
        init(&full[1]);
        init(&exchanged);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    meet();
    auto load = [&](int t) {
        expect(&full[t & 1], BYTES);
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                         address(tile[t & 1])),
                     "l"(in + (blockIdx.x * TILES + t) * THREADS), "r"(BYTES), "r"(address(&full[t & 1]))
                     : "memory");
    };
    if (leader) {
        expect(&exchanged, 4 * (THREADS / 32));
        load(0);
        load(1);
    }
    float sum = 0;
    for (int t = 0; t < TILES; t++) {
        wait(&full[t & 1], t >> 1 & 1);
        sum += tile[t & 1][threadIdx.x];
        __syncthreads();
        if (leader && t + 2 < TILES) load(t + 2);
    }
    float whole = sum;
    for (int step = 16; step; step >>= 1) whole += __shfl_xor_sync(~0u, whole, step);
    if ((threadIdx.x & 31) == 0)
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(
                         in_block(&of_peer[threadIdx.x >> 5], rank ^ 1)),
                     "f"(whole), "r"(in_block(&exchanged, rank ^ 1))
                     : "memory");
    wait(&exchanged, 0);
    if (leader) {
        float total = 0;
        for (int i = 0; i < THREADS / 32; i++) total += of_peer[i];
        sums[blockIdx.x] = total;
    }
    tile[0][threadIdx.x] = sum;
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (leader) {
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(rest + blockIdx.x * THREADS),
                     "r"(address(tile[0])), "r"(BYTES)
                     : "memory");
        asm volatile("cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 0;" ::: "memory");
    }
    meet();
}
