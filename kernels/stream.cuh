// A row that a block walks twice: once for the sums, once for the gradient. The body of the staged and
// two-pass regimes, which differ only in where the second walk finds the packs.
#pragma once
#include "exact.cuh"

// `Stash` keeps pack k for the thread that put it there: put(k, packet), get(row, k).
template <class Row, class Stash>
__device__ __forceinline__ void stream_row(const Args& args, Block& group, Stash& stash, u64 index) {
    typedef typename Row::Index Index;
    constexpr int V = Row::V;
    const Row row(args, index);
    const Rule rule(args);
    const Upstream upstream(args, index, group.rank);

    CompensatedSum p, q;
    float2 edge_sums = make_float2(0.0f, 0.0f);
    const Edge<Row> edge(row, group.rank, rule, edge_sums);
    p.add(edge_sums.x);
    q.add(edge_sums.y);
    for (Index chunk = group.rank; chunk < row.packs; chunk += (Index)group.size * (TERMS_PER_LEVEL / V)) {
        float2 part = make_float2(0.0f, 0.0f);
#pragma unroll 1
        for (int j = 0; j < TERMS_PER_LEVEL / V; j++) {
            Index k = chunk + (Index)j * group.size;
            if (k < row.packs) {
                typename Row::Packet packet = row.fetch(k);
                stash.put(k, packet);
                float u[V], w[V];
                products<Row>(packet, rule, u, w, part);
            }
        }
        p.add(part.x);
        q.add(part.y);
    }
    float2 sums = group.template reduce<Sum, FAST_SUMS>(make_float2(p.value(), q.value()));

    const float scale = upstream.times(args.scale);
    const Ending ending(sums, scale);
    if (!settle(row, group, rule, ending, scale)) return;
    edge.finish(row, group.rank, ending);
#pragma unroll 1
    for (Index k = group.rank; k < row.packs; k += group.size) {
        float u[V], w[V], g[V];
        float2 unused = make_float2(0.0f, 0.0f);
        products<Row>(stash.get(row, k), rule, u, w, unused);
        gradient_of(u, w, ending, g);
        row.store(k, g);
    }
}
