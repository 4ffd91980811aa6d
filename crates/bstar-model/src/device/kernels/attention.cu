// Causal grouped-query attention over packed sequences, forward and backward, without the matrix of
// scores in memory.
//
// qkv (tokens, (heads + 2 kv_heads) d) has queries and keys already turned (`rotate`). With
// S = q k^T / sqrt(d), P = softmax(S), O = P v: dv = P^T dO, dP = dO v^T, dS = P (dP - rowsum(dO O)),
// dq = dS k / sqrt(d), dk = dS^T q / sqrt(d).
//
// A block of four warps owns sixteen rows (queries, or keys in the pass that makes dk and dv), four to
// a warp, and walks the other side in tiles of 32 that it keeps in shared memory. First each lane takes
// one row of the tile, for products along d; then each lane takes columns of d, for sums over the
// tile. `tiles` has three numbers for each block: first and last + 1 token of its sequence, and the
// first of its rows.

#define OWN 4        // rows of a warp
#define WARPS 4      // of a block
#define BLOCK_ROWS 16
#define TILE 32
#define COLUMNS 8    // of a lane: heads of up to 256

// Queries and keys of every token, turned by its position: direction 1, or -1 for turning back.
// Components i and i + d / 2 of a head are a pair. A block takes one token.
extern "C" __global__ void rotate(real* qkv, const unsigned* positions, const float* cosines,
                                  const float* sines, int turned, int head_dim, int stride,
                                  float direction) {
    int half = head_dim / 2;
    real* row = qkv + (size_t)blockIdx.x * stride;
    size_t angles = (size_t)positions[blockIdx.x] * half;
    for (int i = threadIdx.x; i < turned * half; i += blockDim.x) {
        int pair = i % half;
        real* low = row + i / half * head_dim + pair;
        real* high = low + half;
        float cosine = cosines[angles + pair], sine = direction * sines[angles + pair];
        float a = load(*low), b = load(*high);
        put(low, a * cosine - b * sine);
        put(high, b * cosine + a * sine);
    }
}

// Columns of a head: where they begin in a row of the packed buffer, and the width of that row.
struct Head {
    int offset;
    int stride;
};

// Copies tokens [first, first + count) of a head into rows `pitch` apart; zeros from token `end` on.
DEVICE void stage(float* to, int pitch, const real* from, Head head, unsigned first, int count,
                  unsigned end, int head_dim, float scale) {
    for (int i = threadIdx.x; i < count * head_dim; i += blockDim.x) {
        int row = i / head_dim, column = i % head_dim;
        unsigned token = first + row;
        size_t at = (size_t)token * head.stride + head.offset + column;
        to[row * pitch + column] = token < end ? load(from[at]) * scale : 0.0f;
    }
}

// dots[r] = own row r . the lane's row of the tile.
DEVICE void products(float* dots, const float* own, const float* tile_row, int head_dim) {
    for (int r = 0; r < OWN; r++) dots[r] = 0.0f;
    for (int column = 0; column < head_dim; column++) {
        float number = tile_row[column];
#pragma unroll
        for (int r = 0; r < OWN; r++) dots[r] += own[r * head_dim + column] * number;
    }
}

// sums[r][i] += the tile's rows weighted by weights[r][row], in the lane's columns.
DEVICE void weigh(float (*sums)[COLUMNS], const float* weights, const float* tile, int pitch,
                  int head_dim) {
    for (int row = 0; row < TILE; row++) {
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            int column = lane_index() + 32 * i;
            if (column < head_dim) {
                float number = tile[row * pitch + column];
#pragma unroll
                for (int r = 0; r < OWN; r++) sums[r][i] += weights[r * TILE + row] * number;
            }
        }
    }
}

DEVICE bool sees(unsigned query, unsigned key, unsigned window) {
    return key <= query && query - key < window;
}

// The first key that a query sees in a sequence from `begin` on.
DEVICE unsigned first_seen(unsigned query, unsigned begin, unsigned window) {
    return query - begin >= window ? query - window + 1 : begin;
}

extern "C" __global__ void __launch_bounds__(128)
attention_forward(real* output, float* log_totals, const real* qkv, const unsigned* tiles, int heads,
                  int kv_heads, int head_dim, unsigned window) {
    SHARED(float, room);
    float* queries = room;
    float* keys = queries + BLOCK_ROWS * head_dim;
    float* values = keys + TILE * (head_dim + 1);
    float* weights = values + TILE * head_dim + warp_index() * OWN * TILE;
    unsigned begin = tiles[3 * blockIdx.x], end = tiles[3 * blockIdx.x + 1];
    unsigned first = tiles[3 * blockIdx.x + 2];
    int head = blockIdx.y, kv_head = head / (heads / kv_heads);
    int stride = (heads + 2 * kv_heads) * head_dim;
    Head query_head = {head * head_dim, stride}, key_head = {(heads + kv_head) * head_dim, stride};
    Head value_head = {(heads + kv_heads + kv_head) * head_dim, stride};
    unsigned own_first = first + warp_index() * OWN;

    float largest[OWN], totals[OWN], sums[OWN][COLUMNS];
    for (int r = 0; r < OWN; r++) {
        largest[r] = MINUS_INFINITY;
        totals[r] = 0.0f;
        for (int i = 0; i < COLUMNS; i++) sums[r][i] = 0.0f;
    }
    stage(queries, head_dim, qkv, query_head, first, BLOCK_ROWS, end, head_dim,
          1.0f / sqrtf((float)head_dim));
    unsigned last = min(end, first + BLOCK_ROWS);
    for (unsigned start = first_seen(first, begin, window); start < last; start += TILE) {
        __syncthreads();
        stage(keys, head_dim + 1, qkv, key_head, start, TILE, last, head_dim, 1.0f);
        stage(values, head_dim, qkv, value_head, start, TILE, last, head_dim, 1.0f);
        __syncthreads();
        float scores[OWN];
        products(scores, queries + warp_index() * OWN * head_dim,
                 keys + lane_index() * (head_dim + 1), head_dim);
        unsigned key = start + lane_index();
        for (int r = 0; r < OWN; r++) {
            bool seen = key < last && sees(own_first + r, key, window);
            float now = fmaxf(largest[r], warp_max(seen ? scores[r] : MINUS_INFINITY));
            float kept = largest[r] == now ? 1.0f : expf(largest[r] - now);
            float weight = seen ? expf(scores[r] - now) : 0.0f;
            largest[r] = now;
            totals[r] = totals[r] * kept + weight;
            for (int i = 0; i < COLUMNS; i++) sums[r][i] *= kept;
            weights[r * TILE + lane_index()] = weight;
        }
        __syncwarp();
        weigh(sums, weights, values, head_dim, head_dim);
        __syncwarp();
    }
    for (int r = 0; r < OWN; r++) {
        float total = warp_sum(totals[r]);
        unsigned token = own_first + r;
        if (token >= end) continue;
        size_t row = (size_t)token * heads + head;
        for (int i = 0; i < COLUMNS; i++) {
            int column = lane_index() + 32 * i;
            if (column < head_dim) put(output + row * head_dim + column, sums[r][i] / total);
        }
        if (lane_index() == 0) log_totals[row] = largest[r] + logf(total);
    }
}

// deltas = rowsum(dO O) of each token and head; a block of one warp takes one.
extern "C" __global__ void attention_deltas(float* deltas, const real* output,
                                            const real* grad_output, int head_dim) {
    size_t start = (size_t)blockIdx.x * head_dim;
    float sum = 0.0f;
    for (int i = lane_index(); i < head_dim; i += 32)
        sum += load(output[start + i]) * load(grad_output[start + i]);
    sum = warp_sum(sum);
    if (lane_index() == 0) deltas[blockIdx.x] = sum;
}

// Writes dq of the turned queries.
extern "C" __global__ void __launch_bounds__(128)
attention_backward_queries(real* grad_qkv, const real* qkv, const real* grad_output,
                           const float* log_totals, const float* deltas, const unsigned* tiles,
                           int heads, int kv_heads, int head_dim, unsigned window) {
    SHARED(float, room);
    float* queries = room;
    float* grads = queries + BLOCK_ROWS * head_dim;
    float* keys = grads + BLOCK_ROWS * head_dim;
    float* values = keys + TILE * (head_dim + 1);
    float* weights = values + TILE * (head_dim + 1) + warp_index() * OWN * TILE;
    unsigned begin = tiles[3 * blockIdx.x], end = tiles[3 * blockIdx.x + 1];
    unsigned first = tiles[3 * blockIdx.x + 2];
    int head = blockIdx.y, kv_head = head / (heads / kv_heads);
    int stride = (heads + 2 * kv_heads) * head_dim;
    Head query_head = {head * head_dim, stride}, key_head = {(heads + kv_head) * head_dim, stride};
    Head value_head = {(heads + kv_heads + kv_head) * head_dim, stride};
    Head grad_head = {head * head_dim, heads * head_dim};
    unsigned own_first = first + warp_index() * OWN;
    float scale = 1.0f / sqrtf((float)head_dim);

    float log_total[OWN], delta[OWN], sums[OWN][COLUMNS];
    for (int r = 0; r < OWN; r++) {
        size_t row = (size_t)min(own_first + r, end - 1) * heads + head;
        log_total[r] = log_totals[row];
        delta[r] = deltas[row];
        for (int i = 0; i < COLUMNS; i++) sums[r][i] = 0.0f;
    }
    stage(queries, head_dim, qkv, query_head, first, BLOCK_ROWS, end, head_dim, scale);
    stage(grads, head_dim, grad_output, grad_head, first, BLOCK_ROWS, end, head_dim, 1.0f);
    unsigned last = min(end, first + BLOCK_ROWS);
    int own = warp_index() * OWN * head_dim, other = lane_index() * (head_dim + 1);
    for (unsigned start = first_seen(first, begin, window); start < last; start += TILE) {
        __syncthreads();
        stage(keys, head_dim + 1, qkv, key_head, start, TILE, last, head_dim, 1.0f);
        stage(values, head_dim + 1, qkv, value_head, start, TILE, last, head_dim, 1.0f);
        __syncthreads();
        float scores[OWN], grad_weights[OWN];
        products(scores, queries + own, keys + other, head_dim);
        products(grad_weights, grads + own, values + other, head_dim);
        unsigned key = start + lane_index();
        for (int r = 0; r < OWN; r++) {
            unsigned query = own_first + r;
            bool seen = key < last && query < end && sees(query, key, window);
            float weight = seen ? expf(scores[r] - log_total[r]) : 0.0f;
            weights[r * TILE + lane_index()] = weight * (grad_weights[r] - delta[r]);
        }
        __syncwarp();
        weigh(sums, weights, keys, head_dim + 1, head_dim);
        __syncwarp();
    }
    for (int r = 0; r < OWN; r++) {
        unsigned token = own_first + r;
        if (token >= end) continue;
        real* row = grad_qkv + (size_t)token * stride + query_head.offset;
        for (int i = 0; i < COLUMNS; i++) {
            int column = lane_index() + 32 * i;
            if (column < head_dim) put(row + column, sums[r][i] * scale);
        }
    }
}

// Writes dk of the turned keys, and dv. A block's rows are keys; it walks the queries that see them,
// of every head that shares them.
extern "C" __global__ void __launch_bounds__(128)
attention_backward_keys(real* grad_qkv, const real* qkv, const real* grad_output,
                        const float* log_totals, const float* deltas, const unsigned* tiles,
                        int heads, int kv_heads, int head_dim, unsigned window) {
    SHARED(float, room);
    float* keys = room;
    float* values = keys + BLOCK_ROWS * head_dim;
    float* queries = values + BLOCK_ROWS * head_dim;
    float* grads = queries + TILE * (head_dim + 1);
    float* weights = grads + TILE * (head_dim + 1) + warp_index() * 2 * OWN * TILE;
    float* grad_scores = weights + OWN * TILE;
    unsigned end = tiles[3 * blockIdx.x + 1], first = tiles[3 * blockIdx.x + 2];
    int kv_head = blockIdx.y, group = heads / kv_heads;
    int stride = (heads + 2 * kv_heads) * head_dim;
    Head key_head = {(heads + kv_head) * head_dim, stride};
    Head value_head = {(heads + kv_heads + kv_head) * head_dim, stride};
    unsigned own_first = first + warp_index() * OWN;
    float scale = 1.0f / sqrtf((float)head_dim);

    float key_sums[OWN][COLUMNS], value_sums[OWN][COLUMNS];
    for (int r = 0; r < OWN; r++)
        for (int i = 0; i < COLUMNS; i++) key_sums[r][i] = value_sums[r][i] = 0.0f;
    stage(keys, head_dim, qkv, key_head, first, BLOCK_ROWS, end, head_dim, scale);
    stage(values, head_dim, qkv, value_head, first, BLOCK_ROWS, end, head_dim, 1.0f);
    // The last key of the block is seen by the `window` queries from it on.
    unsigned last_key = min(end, first + BLOCK_ROWS) - 1;
    unsigned last = end - last_key > window ? last_key + window : end;
    int own = warp_index() * OWN * head_dim, other = lane_index() * (head_dim + 1);
    for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
        Head query_head = {head * head_dim, stride}, grad_head = {head * head_dim, heads * head_dim};
        for (unsigned start = first; start < last; start += TILE) {
            __syncthreads();
            stage(queries, head_dim + 1, qkv, query_head, start, TILE, last, head_dim, 1.0f);
            stage(grads, head_dim + 1, grad_output, grad_head, start, TILE, last, head_dim, 1.0f);
            __syncthreads();
            float scores[OWN], grad_weights[OWN];
            products(scores, keys + own, queries + other, head_dim);
            products(grad_weights, values + own, grads + other, head_dim);
            unsigned query = start + lane_index();
            size_t row = (size_t)min(query, last - 1) * heads + head;
            float log_total = log_totals[row], delta = deltas[row];
            for (int r = 0; r < OWN; r++) {
                unsigned key = own_first + r;
                bool seen = key < end && query < last && sees(query, key, window);
                float weight = seen ? expf(scores[r] - log_total) : 0.0f;
                weights[r * TILE + lane_index()] = weight;
                grad_scores[r * TILE + lane_index()] = weight * (grad_weights[r] - delta);
            }
            __syncwarp();
            weigh(value_sums, weights, grads, head_dim + 1, head_dim);
            weigh(key_sums, grad_scores, queries, head_dim + 1, head_dim);
            __syncwarp();
        }
    }
    for (int r = 0; r < OWN; r++) {
        unsigned token = own_first + r;
        if (token >= end) continue;
        real* row = grad_qkv + (size_t)token * stride;
        for (int i = 0; i < COLUMNS; i++) {
            int column = lane_index() + 32 * i;
            if (column >= head_dim) continue;
            put(row + key_head.offset + column, key_sums[r][i] * scale);
            put(row + value_head.offset + column, value_sums[r][i]);
        }
    }
}
