// Double precision functions as the compiler's own library has them, and conversions.

extern "C" __global__ void functions(double *out, const double *x, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        double v = x[i], positive = fabs(v) + 1e-3, *to = out + 16 * (size_t)i;
        to[0] = exp(v), to[1] = log(positive), to[2] = pow(positive, v), to[3] = sin(v);
        to[4] = cos(v), to[5] = tanh(v), to[6] = sqrt(positive), to[7] = rsqrt(positive);
        to[8] = cbrt(v), to[9] = erf(v), to[10] = atan2(v, positive), to[11] = hypot(v, 3.0);
        to[12] = expm1(v * 1e-3), to[13] = log1p(positive), to[14] = fmod(v, 0.7), to[15] = 1.0 / v;
    }
}

extern "C" __global__ void conversions(long long *out, const double *x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double v = x[i];
    long long *to = out + 8 * (size_t)i;
    to[0] = (long long)v, to[1] = __double2int_rn(v * 1e10), to[2] = __double2ll_ru(v), to[3] = (unsigned)(int)floor(v);
    to[4] = __double_as_longlong(round(v)), to[5] = __float_as_int(__double2float_rz(v)), to[6] = llrint(v);
    to[7] = __double2hiint(v) ^ __double2loint(v);
}

extern "C" __global__ void single_functions(float *out, const float *x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i], positive = fabsf(v) + 1e-3f, *to = out + 12 * (size_t)i;
    to[0] = expf(v), to[1] = logf(positive), to[2] = powf(positive, v * 0.25f), to[3] = sinf(v);
    to[4] = tanhf(v), to[5] = erff(v), to[6] = log2f(positive), to[7] = exp2f(v);
    to[8] = v / positive, to[9] = fmodf(v, 0.75f), to[10] = atanf(v), to[11] = cosf(100.f * v);
}
