// Steps of an iteration in one launch: all blocks meet between steps at a barrier made of atomics,
// as a cooperative launch allows. Jacobi relaxation on a line.

struct meeting {
    unsigned arrived, generation;
};

__device__ void meet(meeting *m) {
    __syncthreads();
    if (threadIdx.x == 0) {
        volatile unsigned *generation = &m->generation;
        unsigned now = *generation;
#if BUG != 3
        __threadfence();
#endif
#if BUG == 1
        if (atomicAdd(&m->arrived, 1) == gridDim.x) {
#else
        if (atomicAdd(&m->arrived, 1) == gridDim.x - 1) {
#endif
            m->arrived = 0;
            __threadfence();
            *generation = now + 1;
        } else {
            while (*generation == now) __nanosleep(32); // bug 1: deadlock // bug 2: deadlock
        }
#if BUG != 3
        __threadfence();
#endif
    }
    __syncthreads(); // bug 1: deadlock // bug 2: deadlock
}

extern "C" __global__ void relax(float *a, float *b, int n, int steps, meeting *m) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
#if BUG == 2
    if (blockIdx.x * blockDim.x >= n - 1) return;
#endif
    for (int step = 0; step < steps; step++) {
#if BUG == 5
        if (i > 0 && i < n - 1) b[i] = 0.5f * (__ldg(a + i - 1) + __ldg(a + i + 1)); // bug 5: read-only load
#else
        if (i > 0 && i < n - 1) b[i] = 0.5f * (a[i - 1] + a[i + 1]); // bug 3: global race // bug 4: global race
#endif
#if BUG == 4
        __syncthreads();
#else
        meet(m);
#endif
        float *t = a;
        a = b, b = t;
    }
}
