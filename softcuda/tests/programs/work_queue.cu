// Persistent blocks take tasks from a queue until it is empty: a task counts the steps of the
// Collatz sequence for a range of numbers, and may put its second half back.

struct queue {
    unsigned taken, filled;
    unsigned pending; // tasks that are in the queue or being worked on
};

struct task {
    int first, count;
};

extern "C" __global__ void work(int *steps, queue *q, task *tasks, unsigned *ready, int capacity) {
    __shared__ task own;
    __shared__ int state;
    for (;;) {
        if (threadIdx.x == 0) {
            state = 0;
            while (state == 0) { // bug 1: deadlock
                unsigned taken = *(volatile unsigned *)&q->taken, filled = *(volatile unsigned *)&q->filled; // bug 1: deadlock
                if (*(volatile unsigned *)&q->pending == 0) { // bug 1: deadlock
                    state = 2;
                } else if (taken < filled && atomicCAS(&q->taken, taken, taken + 1) == taken) { // bug 1: deadlock
                    while (*(volatile unsigned *)&ready[taken] == 0) __nanosleep(10);
                    __threadfence();
                    own = tasks[taken];
                    state = 1;
                }
            } // bug 1: deadlock
        }
        __syncthreads(); // bug 1: deadlock
        if (state == 2) return;
        task t = own;
        __syncthreads();
        if (t.count > (int)blockDim.x && threadIdx.x == 0) {
            // The second half goes to whoever comes first.
            int half = t.count / 2;
            unsigned place = atomicAdd(&q->filled, 1);
            atomicAdd(&q->pending, 1);
            tasks[place] = {t.first + t.count - half, half}; // bug 2: out of bounds
            __threadfence();
            *(volatile unsigned *)&ready[place] = 1;
        }
        int count = t.count > (int)blockDim.x ? t.count - t.count / 2 : t.count;
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            long long v = t.first + i;
            int n = 0;
            for (; v > 1; n++) v = v & 1 ? 3 * v + 1 : v / 2;
            steps[t.first + i] = n;
        }
        __syncthreads();
#if BUG == 1
        if (threadIdx.x == 0 && t.first != 0) atomicSub(&q->pending, 1u);
#else
        if (threadIdx.x == 0) atomicSub(&q->pending, 1u);
#endif
    }
}
