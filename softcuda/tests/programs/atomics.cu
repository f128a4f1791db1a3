// Atomic operations of all kinds: on integers of 32 and 64 bits, floats by the instruction and by
// compare-and-swap, pairs of halves, on shared memory, and through pointers to either memory.

typedef unsigned long long u64;

struct results {
    int least, most;
    unsigned ands, ors, xors, wrapped, down;
    u64 sum, most64;
    long long least64;
    double total;
    float largest, plain;
    unsigned halves, exchanged;
};

__device__ void max_float(float *at, float v) {
    int *bits = (int *)at, old = *(volatile int *)bits;
    while (__int_as_float(old) < v) {
        int seen = atomicCAS(bits, old, __float_as_int(v));
        if (seen == old) return;
        old = seen;
    }
}

extern "C" __global__ void all_kinds(results *r, const int *x, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        int v = x[i];
        atomicMin(&r->least, v), atomicMax(&r->most, v);
        atomicAnd(&r->ands, v | 0xf0f), atomicOr(&r->ors, v & 0xff00ff), atomicXor(&r->xors, v);
        atomicInc(&r->wrapped, 6), atomicDec(&r->down, 10);
        atomicAdd(&r->sum, (u64)(long long)v), atomicMax(&r->most64, (u64)(unsigned)v << 20);
        atomicMin(&r->least64, (long long)v * 1000003);
        atomicAdd(&r->total, v * 0.5), atomicAdd(&r->plain, (float)(v % 64));
        max_float(&r->largest, (float)(v % 1000));
        unsigned one_and_half = 0x38003c00; // {1.0, 0.5}
        asm volatile("red.global.add.noftz.f16x2 [%0], %1;" ::"l"(&r->halves), "r"(one_and_half) : "memory");
        atomicExch(&r->exchanged, (unsigned)i + 1);
    }
}

// Odd values count in shared memory, even ones in global memory, by the same instruction.
extern "C" __global__ void either_memory(unsigned *counts, u64 *sums, const int *x, int n) {
    __shared__ unsigned own[8];
    __shared__ u64 sum;
    if (threadIdx.x < 8) own[threadIdx.x] = 0;
#if BUG != 1
    if (threadIdx.x == 8) sum = 0;
#endif
    __syncthreads();
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        int v = x[i];
        unsigned *at = v & 1 ? &own[v & 7] : &counts[v & 7];
        unsigned before = atomicAdd(at, 1u);
        if (before >= 1u << 30) __trap();
        u64 *to = v & 2 ? &sum : sums; // bug 1: uninitialised
        atomicAdd(to, (u64)(unsigned)v); // bug 1: uninitialised
    }
    __syncthreads();
    if (threadIdx.x < 8 && own[threadIdx.x] != 0) atomicAdd(&counts[threadIdx.x], own[threadIdx.x]);
    if (threadIdx.x == 8) atomicAdd(&sums[1], sum); // bug 1: uninitialised
}
