// A row kept in registers: the body of the warp and block regimes. Each input is read once and the
// gradient written once; between the two, a thread holds the products u and w of its packs.
#pragma once
#include "exact.cuh"

// `PACKS`: packs per thread; the row's body must have at most PACKS * group.size of them.
template <class Row, class Group, int PACKS>
__device__ __forceinline__ void registers_row(const Args& args, Group& group, u64 index) {
    constexpr int V = Row::V;
    static_assert(PACKS * V + 1 <= TERMS_PER_LEVEL, "one accumulator would take too many terms");
    const Row row(args, index);
    const Rule rule(args);
    const Upstream upstream(args, index, group.rank);

    // All loads are issued before the first use.
    typename Row::Packet packets[PACKS];
#pragma unroll
    for (int j = 0; j < PACKS; j++) {
        int k = group.rank + j * group.size;
        if (k < row.packs) packets[j] = row.fetch(k);
    }

    float u[PACKS][V], w[PACKS][V];
    float2 sums = make_float2(0.0f, 0.0f);
#pragma unroll
    for (int j = 0; j < PACKS; j++) {
        int k = group.rank + j * group.size;
        if (k < row.packs) products<Row>(packets[j], rule, u[j], w[j], sums);
    }
    const Edge<Row> edge(row, group.rank, rule, sums);
    sums = group.template reduce<Sum, FAST_SUMS>(sums);

    const float scale = upstream.times(args.scale);
    const Ending ending(sums, scale);
    if (!settle(row, group, rule, ending, scale)) return;
    edge.finish(row, group.rank, ending);
#pragma unroll
    for (int j = 0; j < PACKS; j++) {
        int k = group.rank + j * group.size;
        if (k < row.packs) {
            float g[V];
            gradient_of(u[j], w[j], ending, g);
            row.store(k, g);
        }
    }
}
