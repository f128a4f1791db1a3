// One step of Adam with decoupled weight decay, over all elements in a grid-stride loop; the
// learning rate comes from device memory, as a graph would have it.

struct adam_options {
    float beta1, beta2, epsilon, decay;
    int step;
};

extern "C" __global__ void adam(float *__restrict__ w, float *__restrict__ m, float *__restrict__ v,
                                const float *__restrict__ grad, const float *__restrict__ rate, adam_options options,
                                long long n) {
    float c1 = 1.f - powf(options.beta1, options.step), c2 = 1.f - powf(options.beta2, options.step);
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) {
        float g = grad[i];
        float mean = options.beta1 * m[i] + (1.f - options.beta1) * g;
        float square = options.beta2 * v[i] + (1.f - options.beta2) * g * g; // bug 1: uninitialised
        m[i] = mean; // bug 2: uninitialised
        v[i] = square; // bug 1: uninitialised
        w[i] -= *rate * (mean / c1 / (sqrtf(square / c2) + options.epsilon) + options.decay * w[i]);
    }
}
