// The exact path, for rows whose direct sums leave the range of the fast path or hold a NaN, or whose
// scale is not an ordinary number. Reads the row from memory three times (maxima, sums, gradient),
// element by element, since such rows are rare and code is not free; stores nothing before the sums
// are final. Correct for every input, at any length.
#pragma once
#include "loss.cuh"

// Sums are kept 2^64 times too large, so that labels down to the smallest subnormal keep their weight
// next to e^-maximum.
constexpr float LIFT_LOG2 = 64.0f;
constexpr float LIFT = 0x1p64f;
constexpr float LIFT_LN = 44.3614195558364998f;

// 2^64 c e^(x - maximum). Infinities are settled before the subtraction: x == maximum covers inf - inf,
// and a coefficient of 0 contributes nothing even to an infinite exponential.
__device__ __forceinline__ float lifted_term(float coefficient, float x, float maximum) {
    float e = x == maximum ? LIFT : exp2_approx((x - maximum) * LOG2E + LIFT_LOG2);
    return coefficient == 0.0f ? 0.0f : coefficient * e;
}

// One side of the loss: log(1 + sum) with the sum given as lifted / 2^64 * e^maximum.
struct ExactSide {
    float maximum, loss, reciprocal;
    __device__ __forceinline__ ExactSide(float maximum, float lifted) : maximum(maximum) {
        float one = lifted_term(1.0f, 0.0f, maximum);  // the "1 +", on the same scale
        float ratio = lifted / one;
        // While the sum fits f32 it keeps its relative accuracy through log1p; beyond, the loss is large
        // and the maximum carries it.
        loss = ratio < FAST_LIMIT ? log1pf(ratio) : (maximum - LIFT_LN) + logf(lifted + one);
        reciprocal = 1.0f / (lifted + one);
        // A valid score of +inf: the loss is infinite, and the gradient must say so.
        if (maximum > 0x1.fffffep127f) reciprocal = maximum;
    }
};

template <class Row, class Group>
__device__ __forceinline__ void exact_row(const Row& row, Group& group, const Rule& rule, float scale) {
    typedef typename Row::Index Index;
    float s, t;

    float2 maxima = make_float2(0.0f, 0.0f);  // the "1 +" has exponent 0
    for (Index i = group.rank; i < row.cols; i += group.size) {
        Row::decode(row.element(i), 0, rule.cutoff, s, t);
        t = rule.snap(t);
        if (t > 0.0f) maxima.x = fmaxf(maxima.x, -s);
        if (t < 1.0f) maxima.y = fmaxf(maxima.y, s);
    }
    maxima = group.template reduce<Max, MAXIMA>(maxima);

    CompensatedSum p, q;
    for (Index i = group.rank; i < row.cols; i += group.size) {
        Row::decode(row.element(i), 0, rule.cutoff, s, t);
        t = rule.snap(t);
        p.add(lifted_term(t, -s, maxima.x));
        q.add(lifted_term(1.0f - t, s, maxima.y));
    }
    float2 sums = group.template reduce<Sum, EXACT_SUMS>(make_float2(p.value(), q.value()));
    const ExactSide positive(maxima.x, sums.x), negative(maxima.y, sums.y);

    if (group.rank == 0) row.args.loss[row.index] = positive.loss + negative.loss;
    if (!row.args.gradient) return;
    for (Index i = group.rank; i < row.cols; i += group.size) {
        Row::decode(row.element(i), 0, rule.cutoff, s, t);
        t = rule.snap(t);
        float a = lifted_term(1.0f - t, s, negative.maximum) * negative.reciprocal;
        float b = lifted_term(t, -s, positive.maximum) * positive.reciprocal;
        // Exactly 0 where masked, even if the scale is infinite or NaN.
        row.store_element(i, s == minus_infinity<float>() ? 0.0f : (a - b) * scale);
    }
}

// How a row ends once its direct sums are known: on the exact path, or with its loss stored. True if its
// gradient is still to be stored, from `ending`.
template <class Row, class Group>
__device__ __forceinline__ bool settle(const Row& row, Group& group, const Rule& rule, const Ending& ending,
                                       float scale) {
    if (ending.exact_needed) {
        exact_row(row, group, rule, scale);
        return false;
    }
    if (group.rank == 0) row.args.loss[row.index] = ending.loss;
    return row.args.gradient != nullptr;
}
