// Locks: every thread of a warp takes the same lock in turn (which needs independent scheduling of
// threads), a ticket lock between blocks, and a lock for each of several accounts, in order.

__device__ void acquire(int *lock) {
    while (atomicCAS(lock, 0, 1) != 0) __nanosleep(20); // bug 1: deadlock // bug 3: deadlock
    __threadfence();
}

__device__ void release(int *lock) {
#if BUG != 4
    __threadfence();
#endif
    atomicExch(lock, 0);
}

extern "C" __global__ void count(int *lock, int *total, const int *x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    acquire(lock);
    *total += x[i]; // bug 4: global race
#if BUG == 1
    if (i % 3 == 0)
#endif
        release(lock);
}

extern "C" __global__ void by_tickets(unsigned *next, unsigned *serving, int *log, int *length) {
    if (threadIdx.x != 0) return;
    unsigned ticket = atomicAdd(next, 1);
#if BUG == 2
    while (*(volatile unsigned *)serving < ticket + 1) // bug 2: deadlock
#else
    while (*(volatile unsigned *)serving != ticket)
#endif
        __nanosleep(50); // bug 2: deadlock
    __threadfence();
    log[*length] = blockIdx.x; // bug 5: global race
    *length += 1; // bug 5: global race
#if BUG != 5
    __threadfence();
#endif
    *(volatile unsigned *)serving = ticket + 1;
}

extern "C" __global__ void transfer(int *locks, int *balance, const int2 *pairs, const int *amounts, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int from = pairs[i].x, to = pairs[i].y;
    if (from == to) return;
#if BUG == 3
    int first = from, second = to;
#else
    int first = min(from, to), second = max(from, to);
#endif
    acquire(&locks[first]);
    acquire(&locks[second]);
    balance[from] -= amounts[i];
    balance[to] += amounts[i];
    release(&locks[second]);
    release(&locks[first]);
}
