// Sum of the row losses, deterministic: a fixed order, no atomics.
//
// Contract: block b sums its contiguous share of `values` with compensation and stores share * scale in
// partials[b]. Launched once with one block for few rows; for many, first with one block per share
// into the workspace, then with one block over those. grid = shares, block = 256.
#include "group.cuh"

constexpr int THREADS = 256;

extern "C" __global__ void __launch_bounds__(THREADS)
    zlpr_total(const float* values, u64 count, float scale, float* partials) {
    Block block;
    u64 share = (count + gridDim.x - 1) / gridDim.x;  // 64-bit: one loss per row, rows may pass 2^31
    u64 begin = share * blockIdx.x;
    u64 end = begin + share < count ? begin + share : count;
    CompensatedSum sum;
    for (u64 i = begin + block.rank; i < end; i += block.size) sum.add(values[i]);
    float2 total = block.reduce<Sum, FAST_SUMS>(make_float2(sum.value(), 0.0f));
    if (block.rank == 0) partials[blockIdx.x] = total.x * scale;
}
