// Programmatic dependent launch: the second kernel does what it can, then waits for the first one's
// results.

extern "C" __global__ void first(float *out, const float *in, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    if (i < n) out[i] = in[i] * in[i];
}

extern "C" __global__ void second(float *out, const float *in, const float *weights, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float w = i < n ? weights[i] : 0;
    asm volatile("griddepcontrol.wait;" ::: "memory");
    if (i < n) out[i] = w * in[n - 1 - i];
}
