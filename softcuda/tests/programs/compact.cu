// Stream compaction that keeps the order: ballots within a warp, a scan over warps, blocks in order
// by one more launch; then the elements that are not kept, from the end.

extern "C" __global__ void count_kept(unsigned *counts, const float *x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned kept = __ballot_sync(0xffffffff, i < n && x[i] >= 0);
    if (threadIdx.x % 32 == 0) atomicAdd(&counts[blockIdx.x], __popc(kept));
}

extern "C" __global__ void compact(float *out, const float *x, const unsigned *counts, int n) {
    __shared__ unsigned of_warp[32];
    int i = blockIdx.x * blockDim.x + threadIdx.x, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    float v = i < n ? x[i] : -1.f;
#if BUG == 1
    unsigned kept = 0;
    if (v >= 0) kept = __ballot_sync(__brev(__activemask()), true); // bug 1: bad member mask
#else
    unsigned kept = __ballot_sync(0xffffffff, v >= 0);
#endif
    if (lane == 0) of_warp[warp] = __popc(kept);
    __syncthreads();
    unsigned before = 0;
    for (int b = 0; b < blockIdx.x; b++) before += counts[b];
    for (int w = 0; w < warp; w++) before += of_warp[w];
    before += __popc(kept & ((1u << lane) - 1));
    if (v >= 0)
        out[before] = v;
    else if (i < n)
        out[n - 1 - (i - before)] = v;
}
