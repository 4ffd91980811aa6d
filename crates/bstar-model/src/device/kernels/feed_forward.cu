// The gated activation of the feed-forward block: y = silu(gate) up, silu(x) = x sigma(x); backward
// dup = dy silu(gate), dgate = dy up sigma(gate) (1 + gate (1 - sigma(gate))). Gate and up are the two
// halves of a row of 2 `inner` numbers; a thread takes one number of y.

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

extern "C" __global__ void swiglu(real* y, const real* gate_up, int inner, size_t count) {
    size_t i = thread_number();
    if (i >= count) return;
    size_t at = i / inner * 2 * inner + i % inner;
    float gate = load(gate_up[at]);
    put(y + i, gate * sigmoid(gate) * load(gate_up[at + inner]));
}

extern "C" __global__ void swiglu_backward(real* grad, const real* grad_y, const real* gate_up,
                                           int inner, size_t count) {
    size_t i = thread_number();
    if (i >= count) return;
    size_t at = i / inner * 2 * inner + i % inner;
    float gate = load(gate_up[at]), up = load(gate_up[at + inner]), dy = load(grad_y[i]);
    float open = sigmoid(gate);
    put(grad + at + inner, dy * gate * open);
    put(grad + at, dy * up * open * (1.0f + gate * (1.0f - open)));
}
