// Draws the next token of every lane from its logits, and records log-probability and entropy.
//
// The order is that of the sampler on the CPU: repetition penalty, temperature, top-k, top-p, min-p;
// the records are those of the logits as the model gives them. Instead of sorting, the least weight
// that is kept is found bit by bit: weights are not negative, so their order is that of their bits. Of
// equal weights the lower ids are kept. Sums run in double precision over fixed shares: warp w of the
// block owns the w-th share of the vocabulary, and walks it in tiles of 32.

// What is drawn for a lane, as the host reads it.
struct Drawn {
    unsigned token;
    float log_probability;
    float entropy;
    unsigned finite;
};

// The least weight that is kept, and how many of the weights equal to it.
struct Threshold {
    unsigned bits;
    unsigned ties;
};

DEVICE unsigned block_min(unsigned x) {
    __shared__ unsigned least[32];
    for (int step = 16; step > 0; step >>= 1) x = min(x, __shfl_xor_sync(EVERY_LANE, x, step));
    __syncthreads();
    if (lane_index() == 0) least[warp_index()] = x;
    __syncthreads();
    unsigned result = least[0];
    for (int warp = 1; warp < warp_count(); warp++) result = min(result, least[warp]);
    return result;
}

// The logit of a token after the repetition penalty; `seen` has one bit for each token.
DEVICE float penalised(const float* logits, const unsigned* seen, float penalty, int token) {
    float logit = logits[token];
    if (penalty == 1.0f || !((seen[token >> 5] >> (token & 31)) & 1u)) return logit;
    return logit < 0.0f ? logit * penalty : logit / penalty;
}

// The lowest of the likeliest tokens after the penalty, and its logit.
DEVICE unsigned find_likeliest(const float* logits, const unsigned* seen, float penalty,
                               int vocabulary, float* largest) {
    float best = MINUS_INFINITY;
    unsigned token = 0;
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
        float logit = penalised(logits, seen, penalty, i);
        if (logit > best) {
            best = logit;
            token = i;
        }
    }
    *largest = block_max(best);
    return block_min(best == *largest ? token : 0xffffffffu);
}

// How many weights have at least these bits, and their sum.
DEVICE unsigned count_from(const float* weights, int vocabulary, unsigned bits) {
    unsigned own = 0;
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x)
        own += __float_as_uint(weights[i]) >= bits;
    return block_sum(own);
}

DEVICE double sum_from(const float* weights, int vocabulary, unsigned bits) {
    double own = 0.0;
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x)
        if (__float_as_uint(weights[i]) >= bits) own += weights[i];
    return block_sum(own);
}

// The `top_k` largest weights.
DEVICE Threshold find_top_k(const float* weights, int vocabulary, unsigned top_k) {
    unsigned bits = 0;
    for (int bit = 30; bit >= 0; bit--) {
        unsigned tried = bits | 1u << bit;
        if (count_from(weights, vocabulary, tried) >= top_k) bits = tried;
    }
    Threshold result = {bits, top_k - count_from(weights, vocabulary, bits + 1)};
    return result;
}

// The fewest of the largest weights whose sum is at least the share `top_p` of what `most` keeps.
DEVICE Threshold find_top_p(const float* weights, int vocabulary, Threshold most, double top_p) {
    double of_most = sum_from(weights, vocabulary, most.bits + 1);
    double enough = top_p * (of_most + most.ties * (double)__uint_as_float(most.bits));
    unsigned bits = 0;
    for (int bit = 30; bit >= 0; bit--) {
        unsigned tried = bits | 1u << bit;
        if (tried <= most.bits || sum_from(weights, vocabulary, tried) >= enough) bits = tried;
    }
    double above = sum_from(weights, vocabulary, bits + 1), weight = __uint_as_float(bits);
    unsigned equal = count_from(weights, vocabulary, bits) - count_from(weights, vocabulary, bits + 1);
    if (bits == most.bits) equal = min(equal, most.ties);
    unsigned ties = 1;
    while (ties < equal && above + ties * weight < enough) ties++;
    Threshold result = {bits, ties};
    return result;
}

// A warp's share of the vocabulary: tokens [first, last).
struct Share {
    int first;
    int last;
};

DEVICE Share share_of_warp(int vocabulary) {
    int size = (vocabulary + 32 * warp_count() - 1) / (32 * warp_count()) * 32;
    Share share = {min(warp_index() * size, vocabulary), min((warp_index() + 1) * size, vocabulary)};
    return share;
}

// Zeroes what the threshold and min-p leave out of a warp's share, and returns the rest's sum in every
// lane. `rank` is the number of weights equal to the threshold in earlier shares.
DEVICE double keep(float* weights, Share share, Threshold threshold, unsigned rank, float min_p) {
    double own = 0.0;
    unsigned lower_lanes = (1u << lane_index()) - 1;
    for (int start = share.first; start < share.last; start += 32) {
        int token = start + lane_index();
        float weight = token < share.last ? weights[token] : 0.0f;
        unsigned bits = __float_as_uint(weight);
        unsigned equal =
            __ballot_sync(EVERY_LANE, token < share.last && bits == threshold.bits);
        bool kept = bits > threshold.bits
                    || (bits == threshold.bits
                        && rank + __popc(equal & lower_lanes) < threshold.ties);
        rank += __popc(equal);
        if (!kept || weight < min_p) weight = 0.0f;
        if (token < share.last) weights[token] = weight;
        own += weight;
    }
    return warp_sum(own);
}

DEVICE unsigned count_equal(const float* weights, Share share, unsigned bits) {
    unsigned own = 0;
    for (int token = share.first + lane_index(); token < share.last; token += 32)
        own += __float_as_uint(weights[token]) == bits;
    return warp_sum(own);
}

// The first token of a share at which the running sum is above `target`; where rounding leaves none,
// the last with a weight.
DEVICE unsigned walk(const float* weights, Share share, double target) {
    double reached = 0.0;
    unsigned last = share.first;
    for (int start = share.first; start < share.last; start += 32) {
        int token = start + lane_index();
        float weight = token < share.last ? weights[token] : 0.0f;
        double sum = weight;
        for (int step = 1; step < 32; step <<= 1) {
            double lower = __shfl_up_sync(EVERY_LANE, sum, step);
            if (lane_index() >= step) sum += lower;
        }
        unsigned above = __ballot_sync(EVERY_LANE, weight > 0.0f && reached + sum > target);
        if (above != 0) return start + __ffs(above) - 1;
        unsigned some = __ballot_sync(EVERY_LANE, weight > 0.0f);
        if (some != 0) last = start + 31 - __clz(some);
        reached += __shfl_sync(EVERY_LANE, sum, 31);
    }
    return last;
}

// The token at the place `uniform` in [0, 1) of the weights that are kept.
DEVICE unsigned pick(float* weights, int vocabulary, Threshold threshold, float min_p,
                     double uniform) {
    __shared__ unsigned equal[32], picked;
    __shared__ double sums[32];
    Share share = share_of_warp(vocabulary);
    unsigned own_equal = count_equal(weights, share, threshold.bits);
    if (lane_index() == 0) equal[warp_index()] = own_equal;
    __syncthreads();
    unsigned rank = 0;
    for (int warp = 0; warp < warp_index(); warp++) rank += equal[warp];
    double own_sum = keep(weights, share, threshold, rank, min_p);
    if (lane_index() == 0) sums[warp_index()] = own_sum;
    __syncthreads();
    double total = 0.0;
    for (int warp = 0; warp < warp_count(); warp++) total += sums[warp];
    double target = total * uniform, reached = 0.0, before = 0.0;
    int chosen = 0;
    for (int warp = 0; warp < warp_count(); warp++) {
        if (sums[warp] > 0.0) {
            chosen = warp;
            before = reached;
        }
        reached += sums[warp];
        if (reached > target) break;
    }
    if (warp_index() == chosen) {
        unsigned token = walk(weights, share, target - before);
        if (lane_index() == 0) picked = token;
    }
    __syncthreads();
    return picked;
}

// A block takes one lane. `weights` is room for (lanes, vocabulary); `seen` (lanes, ceil(vocabulary /
// 32)) is read and marked only where there is a penalty. A temperature of 0 is told by an
// `inverse_temperature` of 0. Without top-k, it is the vocabulary.
extern "C" __global__ void __launch_bounds__(1024)
draw(Drawn* drawn, float* weights, unsigned* seen, const float* logits, const double* uniforms,
     int vocabulary, float inverse_temperature, unsigned top_k, double top_p, float min_p,
     float penalty) {
    size_t row = (size_t)blockIdx.x * vocabulary;
    logits += row;
    weights += row;
    if (penalty != 1.0f) seen += (size_t)blockIdx.x * ((vocabulary + 31) / 32);

    float largest;
    unsigned token = find_likeliest(logits, nullptr, 1.0f, vocabulary, &largest);
    double total = 0.0, weighted = 0.0;
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
        float less = logits[i] - largest, exponential = expf(less);
        total += exponential;
        weighted += exponential * less;
    }
    total = block_sum(total);
    weighted = block_sum(weighted);
    // Not-a-number and infinity show in the sums.
    bool finite = total - total == 0.0 && weighted - weighted == 0.0;

    float largest_penalised = largest;
    if (penalty != 1.0f)
        token = find_likeliest(logits, seen, penalty, vocabulary, &largest_penalised);
    if (finite && inverse_temperature != 0.0f) {
        for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
            float less = penalised(logits, seen, penalty, i) - largest_penalised;
            weights[i] = expf(less * inverse_temperature);
        }
        __syncthreads();
        Threshold threshold = {0u, (unsigned)vocabulary};
        if (top_k < (unsigned)vocabulary) threshold = find_top_k(weights, vocabulary, top_k);
        if (top_p < 1.0) threshold = find_top_p(weights, vocabulary, threshold, top_p);
        __syncthreads();
        token = pick(weights, vocabulary, threshold, min_p, uniforms[blockIdx.x]);
    }
    if (threadIdx.x != 0) return;
    Drawn* to = drawn + blockIdx.x;
    if (!finite) token = 0;
    to->token = token;
    to->finite = finite;
    to->log_probability = (float)((double)(logits[token] - largest) - log(total));
    to->entropy = fmaxf((float)(log(total) - weighted / total), 0.0f);
    if (penalty != 1.0f) seen[token >> 5] |= 1u << (token & 31);
}
