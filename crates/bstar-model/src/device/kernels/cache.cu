// The key-value cache of sampling, and attention over it.
//
// Keys of a layer are (lane, slot, kv_heads d) and turned, values the same; the token at position p is
// in slot p % capacity. A layer with a window needs no more slots than it sees.

// Row r of qkv is the token of lane r at positions[r]. A block takes one lane.
extern "C" __global__ void store_token(real* keys, real* values, const real* qkv,
                                       const unsigned* positions, int query_width, int kv_width,
                                       unsigned capacity) {
    const real* row = qkv + (size_t)blockIdx.x * (query_width + 2 * kv_width) + query_width;
    size_t slot = (size_t)blockIdx.x * capacity + positions[blockIdx.x] % capacity;
    for (int i = threadIdx.x; i < kv_width; i += blockDim.x) {
        keys[slot * kv_width + i] = row[i];
        values[slot * kv_width + i] = row[kv_width + i];
    }
}

// Prompts into lanes: entry e (blockIdx.y) is a lane, the first row of its prompt in qkv, and the
// prompt's length; blockIdx.x is a position. Of a prompt longer than the capacity the end is kept.
extern "C" __global__ void store_prompts(real* keys, real* values, const real* qkv,
                                         const unsigned* entries, int query_width, int kv_width,
                                         unsigned capacity) {
    unsigned lane = entries[3 * blockIdx.y], first = entries[3 * blockIdx.y + 1];
    unsigned length = entries[3 * blockIdx.y + 2], position = blockIdx.x;
    if (position >= length || position + capacity < length) return;
    const real* row = qkv + (size_t)(first + position) * (query_width + 2 * kv_width) + query_width;
    size_t slot = (size_t)lane * capacity + position % capacity;
    for (int i = threadIdx.x; i < kv_width; i += blockDim.x) {
        keys[slot * kv_width + i] = row[i];
        values[slot * kv_width + i] = row[kv_width + i];
    }
}

// One query of each lane (blockIdx.y) and head (blockIdx.x) against the slots that it sees. Each warp
// takes every n-th of them and keeps a running softmax; the warps are joined in their order.
extern "C" __global__ void __launch_bounds__(128)
attend_cache(real* output, const real* qkv, const real* keys, const real* values,
             const unsigned* positions, int heads, int kv_heads, int head_dim, unsigned capacity,
             unsigned window) {
    SHARED(float, room);  // (warps, d)
    __shared__ float warp_largest[WARPS], warp_totals[WARPS];
    int head = blockIdx.x, lane = blockIdx.y, kv_head = head / (heads / kv_heads);
    size_t kv_width = (size_t)kv_heads * head_dim;
    const real* query =
        qkv + (size_t)lane * (heads + 2 * kv_heads) * head_dim + head * head_dim;
    const real* lane_keys = keys + lane * (capacity * kv_width) + kv_head * head_dim;
    const real* lane_values = values + lane * (capacity * kv_width) + kv_head * head_dim;
    unsigned position = positions[lane];
    float scale = 1.0f / sqrtf((float)head_dim);

    float own[COLUMNS], sums[COLUMNS], largest = MINUS_INFINITY, total = 0.0f;
    for (int i = 0; i < COLUMNS; i++) {
        int column = lane_index() + 32 * i;
        own[i] = column < head_dim ? load(query[column]) * scale : 0.0f;
        sums[i] = 0.0f;
    }
    unsigned first = first_seen(position, 0, window);
    for (unsigned at = first + warp_index(); at <= position; at += WARPS) {
        size_t slot = at % capacity * kv_width;
        float score = 0.0f;
        for (int i = 0; i < COLUMNS; i++) {
            int column = lane_index() + 32 * i;
            if (column < head_dim) score += own[i] * load(lane_keys[slot + column]);
        }
        score = warp_sum(score);
        float now = fmaxf(largest, score), kept = expf(largest - now), weight = expf(score - now);
        largest = now;
        total = total * kept + weight;
        for (int i = 0; i < COLUMNS; i++) {
            int column = lane_index() + 32 * i;
            if (column < head_dim)
                sums[i] = sums[i] * kept + weight * load(lane_values[slot + column]);
        }
    }
    for (int i = 0; i < COLUMNS; i++) {
        int column = lane_index() + 32 * i;
        if (column < head_dim) room[warp_index() * head_dim + column] = sums[i];
    }
    if (lane_index() == 0) {
        warp_largest[warp_index()] = largest;
        warp_totals[warp_index()] = total;
    }
    __syncthreads();
    float all = warp_largest[0], sum_of_totals = 0.0f;
    for (int warp = 1; warp < WARPS; warp++) all = fmaxf(all, warp_largest[warp]);
    for (int warp = 0; warp < WARPS; warp++)
        sum_of_totals += warp_totals[warp] * expf(warp_largest[warp] - all);
    for (int column = threadIdx.x; column < head_dim; column += blockDim.x) {
        float sum = 0.0f;
        for (int warp = 0; warp < WARPS; warp++)
            sum += room[warp * head_dim + column] * expf(warp_largest[warp] - all);
        put(output + ((size_t)lane * heads + head) * head_dim + column, sum / sum_of_totals);
    }
}
