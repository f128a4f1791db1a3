// Moving packs of elements between memory and registers, at full width where the address allows it.
#pragma once
#include "numeric.cuh"

// `Count` elements of T as 32-bit words.
template <class T, int Count> struct Pack {
    static constexpr int bytes = Count * (int)sizeof(T);
    static constexpr int words = bytes / 4;
    static constexpr int align = bytes < 16 ? bytes : 16;  // what one access needs
    u32 word[words];

    __device__ __forceinline__ T get(int i) const { return Lane<T>::get(word, i); }
    __device__ __forceinline__ void set(int i, T x) { Lane<T>::set(word, i, x); }

    // One access per 16 bytes; `from` must be aligned to `align`.
    __device__ __forceinline__ void load_wide(const void* from) {
        if constexpr (bytes == 4) {
            word[0] = *(const u32*)from;
        } else if constexpr (bytes == 8) {
            uint2 v = *(const uint2*)from;
            word[0] = v.x, word[1] = v.y;
        } else {
#pragma unroll
            for (int i = 0; i < bytes / 16; i++) {
                uint4 v = ((const uint4*)from)[i];
                word[4 * i] = v.x, word[4 * i + 1] = v.y, word[4 * i + 2] = v.z, word[4 * i + 3] = v.w;
            }
        }
    }
    __device__ __forceinline__ void store_wide(void* to) const {
        if constexpr (bytes == 4) {
            *(u32*)to = word[0];
        } else if constexpr (bytes == 8) {
            *(uint2*)to = make_uint2(word[0], word[1]);
        } else {
#pragma unroll
            for (int i = 0; i < bytes / 16; i++)
                ((uint4*)to)[i] = make_uint4(word[4 * i], word[4 * i + 1], word[4 * i + 2], word[4 * i + 3]);
        }
    }

    // To global memory. In assembly: the compiler merges the tail of a plain wide store with the element
    // stores of the other branch, and what is left is narrow.
    __device__ __forceinline__ void store_global(void* to) const {
        u64 address = __cvta_generic_to_global(to);
        if constexpr (bytes == 4) {
            asm volatile("st.global.b32 [%0], %1;" ::"l"(address), "r"(word[0]) : "memory");
        } else if constexpr (bytes == 8) {
            asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(address), "r"(word[0]), "r"(word[1]) : "memory");
        } else {
#pragma unroll
            for (int i = 0; i < bytes / 16; i++)
                asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address + 16 * i), "r"(word[4 * i]),
                             "r"(word[4 * i + 1]), "r"(word[4 * i + 2]), "r"(word[4 * i + 3])
                             : "memory");
        }
    }
};

// Elements [first, first + Count) of one row of an array, for any `first` of the form
// begin + k * Count: full width if the row is aligned for that, else element by element.
template <class T, int Count> struct Span {
    T* data;    // element `begin`
    bool wide;  // uniform over the row

    __device__ __forceinline__ explicit Span(T* begin)
        : data(begin), wide(((u64)begin & (Pack<T, Count>::align - 1)) == 0) {}

    template <class Index> __device__ __forceinline__ Pack<T, Count> load(Index offset) const {
        Pack<T, Count> pack;
        if (wide) {
            pack.load_wide(data + offset);
        } else {
#pragma unroll
            for (int i = 0; i < Pack<T, Count>::words; i++) pack.word[i] = 0;
#pragma unroll
            for (int i = 0; i < Count; i++) pack.set(i, data[offset + i]);
        }
        return pack;
    }
    template <class Index> __device__ __forceinline__ void store(Index offset, const Pack<T, Count>& pack) const {
        if (wide) {
            pack.store_global(data + offset);
        } else {
#pragma unroll
            for (int i = 0; i < Count; i++) data[offset + i] = pack.get(i);
        }
    }
};
