// Merges two sorted lists: a thread finds where its diagonal crosses the merge path by bisection,
// then merges its few elements.

enum { PER_THREAD = 7 };

__device__ int crossing(const int *a, int na, const int *b, int nb, int diagonal) {
#if BUG == 1
    int low = max(0, diagonal - nb), high = diagonal;
#else
    int low = max(0, diagonal - nb), high = min(diagonal, na);
#endif
    while (low < high) {
        int middle = (low + high) / 2;
        if (a[middle] <= b[diagonal - 1 - middle]) // bug 1: out of bounds
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

extern "C" __global__ void merge(int *out, const int *a, int na, const int *b, int nb) {
    int diagonal = (blockIdx.x * blockDim.x + threadIdx.x) * PER_THREAD;
    if (diagonal >= na + nb) return;
    int i = crossing(a, na, b, nb, diagonal), j = diagonal - i;
    for (int k = diagonal; k < min(diagonal + PER_THREAD, na + nb); k++) {
#if BUG == 2
        bool first = a[i] <= b[j]; // bug 2: out of bounds
#else
        bool first = j >= nb || (i < na && a[i] <= b[j]);
#endif
        out[k] = first ? a[i++] : b[j++];
    }
}
