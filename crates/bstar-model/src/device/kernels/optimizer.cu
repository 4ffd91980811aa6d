// AdamW over one group of parameters, all factors worked out by the host, and the check that follows.

// `working` is the copy that products read; null where there is none.
extern "C" __global__ void adamw(float* parameters, real* working, const float* gradient, float* first,
                                 float* second, size_t count, float gradient_scale, float keep,
                                 float beta1, float beta2, float rest1, float rest2, float step_size,
                                 float root_scale, float epsilon) {
    size_t i = thread_number();
    if (i >= count) return;
    float g = gradient[i] * gradient_scale;
    float m = beta1 * first[i] + rest1 * g;
    float v = beta2 * second[i] + rest2 * (g * g);
    first[i] = m;
    second[i] = v;
    float moved = parameters[i] * keep - step_size * (m / (sqrtf(v) * root_scale + epsilon));
    parameters[i] = moved;
    if (working != nullptr) put(working + i, moved);
}

// Sets the flag if a number is infinite or not a number.
extern "C" __global__ void find_not_finite(unsigned* flag, const float* x, size_t count) {
    size_t i = thread_number();
    if (i < count && (__float_as_uint(x[i]) & 0x7f800000u) == 0x7f800000u) *flag = 1u;
}
