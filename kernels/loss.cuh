// The arithmetic of the operation, free of memory layout.
//
//   P = sum t e^-s      Q = sum (1-t) e^s      loss = log(1 + P) + log(1 + Q)
//   gradient = (1-t) e^s / (1 + Q)  -  t e^-s / (1 + P)
//
// Su Jianlin, kexue.fm/archives/9064, eq. (5) and (6); Su et al., arXiv 2208.02955.
#pragma once
#include "group.cuh"
#include "row.cuh"

constexpr float LOG2E = 1.44269504088896340736f;
// e^88 is finite in f32, and e^-88 is below 2^-126 and flushed to 0.
constexpr float CLAMP = 88.0f;
// A fast row has both sums below this. A clamped element whose coefficient is at least 2^-30 passes
// it (e^88 = 2^126.9), so no overflow goes unnoticed; smaller coefficients are watched for one by one.
constexpr float FAST_LIMIT = 0x1p96f;
constexpr float WATCH_BELOW = 0x1p-30f;
// Terms that one accumulator takes before it moves to the second level.
constexpr int TERMS_PER_LEVEL = 64;

// What the arithmetic needs to know besides scores and labels.
struct Rule {
    float low, high, cutoff;
    bool watch;  // labels between 0 and 2^-30 may carry weight
    __device__ __forceinline__ Rule(const Args& a)
        : low(a.low), high(a.high), cutoff(a.cutoff), watch(a.low < WATCH_BELOW) {}
    // Labels closer than epsilon to 0 or 1 are exactly 0 or 1. NaN stays NaN.
    __device__ __forceinline__ float snap(float t) const { return t < low ? 0.0f : (t > high ? 1.0f : t); }
};

// The upstream gradient of one row. One lane of each warp asks for it, early; the others get it from that
// lane when they need it, so that it costs no traffic to speak of.
struct Upstream {
    float loaded = 1.0f;
    __device__ __forceinline__ Upstream(const Args& a, u64 row, int rank) {
        if (a.upstream && rank % 32 == 0) loaded = a.upstream[row * a.upstream_stride];
    }
    // Called by whole warps: the threads of a row take the same branches.
    __device__ __forceinline__ float times(float scale) const { return scale * __shfl_sync(0xffffffffu, loaded, 0); }
};

// The products u = (1-t) e^s and w = t e^-s of a packet or element, without maximum shift. `sums` gets
// their total; a NaN there (also planted by the watch) sends the row to the exact path.
template <class Row, int Count, class P>
__device__ __forceinline__ void products(const P& from, const Rule& rule, float (&u)[Count], float (&w)[Count],
                                         float2& sums) {
#pragma unroll
    for (int i = 0; i < Count; i++) {
        float s, t;
        Row::decode(from, i, rule.cutoff, s, t);
        if constexpr (Row::hard) {
            // One exponential: x = s (1 - 2t).
            bool positive = t != 0.0f;
            float e = exp2_approx(clamp_keep_nan(positive ? -s : s, CLAMP) * LOG2E);
            u[i] = positive ? 0.0f : e;
            w[i] = positive ? e : 0.0f;
        } else {
            float x = clamp_keep_nan(s, CLAMP) * LOG2E;
            float snapped = rule.snap(t);
            u[i] = (1.0f - snapped) * exp2_approx(x);
            w[i] = snapped * exp2_approx(-x);
            if (rule.watch && s < -CLAMP && snapped > 0.0f) w[i] = quiet_nan();
        }
        sums.x += w[i];
        sums.y += u[i];
    }
}

// How a fast row ends: loss, and the factors of w and u in the gradient.
struct Ending {
    bool exact_needed;
    float loss;
    float of_w, of_u;
    __device__ __forceinline__ Ending(float2 sums, float scale) {
        loss = log1pf(sums.x) + log1pf(sums.y);
        of_w = scale / (1.0f + sums.x);
        of_u = scale / (1.0f + sums.y);
        bool in_range = sums.x < FAST_LIMIT && sums.y < FAST_LIMIT;
        // The factors must be normal numbers, or products with them lose accuracy (or 0 * inf appears).
        bool factors = scale == 0.0f || (normal(of_w) && normal(of_u));
        exact_needed = !(in_range && factors);
    }
    static __device__ __forceinline__ bool normal(float x) {
        return fabsf(x) >= 0x1p-126f && fabsf(x) <= 0x1.fffffep127f;
    }
};

template <int Count>
__device__ __forceinline__ void gradient_of(const float (&u)[Count], const float (&w)[Count], const Ending& ending,
                                            float (&g)[Count]) {
#pragma unroll
    for (int i = 0; i < Count; i++) g[i] = u[i] * ending.of_u - w[i] * ending.of_w;
}

// The edge element of one thread: its products stay in registers in every regime.
template <class Row> struct Edge {
    bool present;
    float u[1], w[1];
    __device__ __forceinline__ Edge(const Row& row, int rank, const Rule& rule, float2& sums)
        : present(rank < row.edges) {
        if (present) products<Row>(row.element(row.column_of_edge(rank)), rule, u, w, sums);
    }
    __device__ __forceinline__ void finish(const Row& row, int rank, const Ending& ending) const {
        if (!present) return;
        float g[1];
        gradient_of(u, w, ending, g);
        row.store_element(row.column_of_edge(rank), g[0]);
    }
};
