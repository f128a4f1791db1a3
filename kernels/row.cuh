// The seam between label forms and regimes. A `Row` turns memory into (score, label) pairs and puts
// gradients back; a regime decides where the pairs live and how sums are reduced, and knows no label form.
//
//        |  edge  |      pack 0      |      pack 1      | ... |  edge  |
//        row begin^                  ^ 16-byte boundaries     ^        row end
//
// The body is whole packs: 16 aligned bytes of scores whatever the row's alignment, and the same elements
// of labels, mask and gradient, at full width where their own alignment allows it. The fewer than 2 V
// elements around it are the edges; each is some thread's single element. Nothing is read outside the
// row: the bytes beside it belong to the neighbouring row, which may be overwritten in place just now.
//
// A masked element is the pair (-inf, 0). Its exponentials weigh exactly 0 on both sides, so no other
// code needs to know about masks.
#pragma once
#include "words.cuh"

// Dense labels of element type L: soft (f32, f16, bf16) or hard (u8, nonzero is 1).
template <class L> struct Dense {
    typedef L Element;
    static constexpr bool hard = false;
    static __device__ __forceinline__ float value(L x) { return to_f32(x); }
};
template <> struct Dense<u8> {
    typedef u8 Element;
    static constexpr bool hard = true;
    static __device__ __forceinline__ float value(u8 x) { return x ? 1.0f : 0.0f; }
};

// `Index` counts packs and columns: int where a row fits on chip, i64 where it may have more than 2^31 columns.
template <class S, class Labels, class Index_> struct Row {
    typedef typename Labels::Element L;
    typedef Index_ Index;
    static constexpr int V = 16 / (int)sizeof(S);  // elements per pack
    static constexpr bool hard = Labels::hard;

    struct Packet {
        Pack<S, V> scores;
        Pack<L, V> labels;
        __device__ __forceinline__ S score(int i) const { return scores.get(i); }
        __device__ __forceinline__ L label(int i) const { return labels.get(i); }
    };
    struct Element {
        S score_;
        L label_;
        __device__ __forceinline__ S score(int) const { return score_; }
        __device__ __forceinline__ L label(int) const { return label_; }
    };

    const Args& args;
    u64 index;
    S* row_scores;
    L* row_labels;
    u8* row_mask;  // null: nothing masked
    Index cols;
    int head;     // edge elements before the body
    Index packs;  // of the body
    int edges;    // edge elements, before and after
    Span<S, V> scores;
    Span<L, V> labels;
    Span<u8, V> mask;

    // 64-bit row bases: rows * stride passes 2^31 elements for ordinary batches.
    __device__ __forceinline__ Row(const Args& a, u64 row)
        : args(a),
          index(row),
          row_scores((S*)a.scores + row * a.scores_stride),
          row_labels((L*)a.labels + row * a.labels_stride),
          row_mask(a.mask ? (u8*)a.mask + row * a.mask_stride : nullptr),
          cols((Index)a.cols),
          head(head_of(row_scores, a.cols)),
          packs((cols - head) / V),
          edges((int)(cols - packs * V)),
          scores(row_scores + head),
          labels(row_labels + head),
          mask(row_mask + head) {}

    // Pack k of the body. The mask is folded into the scores.
    __device__ __forceinline__ Packet fetch(Index k) const {
        Packet packet = {scores.load(k * V), labels.load(k * V)};
        if (row_mask) {
            Pack<u8, V> bytes = mask.load(k * V);
            Pack<S, V> kept = {};
#pragma unroll
            for (int i = 0; i < V; i++) kept.set(i, bytes.get(i) ? packet.score(i) : minus_infinity<S>());
            packet.scores = kept;
        }
        return packet;
    }
    // One column.
    __device__ __forceinline__ Element element(Index column) const {
        Element element = {row_scores[column], row_labels[column]};
        if (row_mask && !row_mask[column]) element.score_ = minus_infinity<S>();
        return element;
    }
    __device__ __forceinline__ Index column_of_edge(int edge) const {
        return edge < head ? edge : edge + packs * V;
    }

    // Rounds and stores the gradient of pack k.
    __device__ __forceinline__ void store(Index k, const float (&g)[V]) const {
        if (gradient_has_type_of_scores())
            store_as<S>(k, g);
        else
            store_as<float>(k, g);
    }
    __device__ __forceinline__ void store_element(Index column, float g) const {
        u64 base = index * args.gradient_stride + column;
        if (gradient_has_type_of_scores())
            ((S*)args.gradient)[base] = from_f32<S>(g);
        else
            ((float*)args.gradient)[base] = g;
    }

    // The pair i of a Packet or Element, in f32. A score at or below the cutoff (-inf if the caller gave
    // none) is masked; its label is dropped too, so that a NaN there has no effect.
    template <class P>
    static __device__ __forceinline__ void decode(const P& from, int i, float cutoff, float& s, float& t) {
        s = to_f32(from.score(i));
        t = Labels::value(from.label(i));
        if (s <= cutoff) {
            s = minus_infinity<float>();
            t = 0.0f;
        }
    }

  private:
    static __device__ __forceinline__ int head_of(const S* data, u64 cols) {
        u64 head = (0 - (u64)data) % 16 / sizeof(S);
        return (int)(head < cols ? head : cols);
    }
    __device__ __forceinline__ bool gradient_has_type_of_scores() const { return sizeof(S) == 4 || !args.gradient_f32; }
    template <class G> __device__ __forceinline__ void store_as(Index k, const float (&g)[V]) const {
        Span<G, V> out((G*)args.gradient + index * args.gradient_stride + head);
        Pack<G, V> pack = {};
#pragma unroll
        for (int i = 0; i < V; i++) pack.set(i, from_f32<G>(g[i]));
        out.store(k * V, pack);
    }
};
