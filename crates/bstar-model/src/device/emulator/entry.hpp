// The door of the emulated device: launches a kernel of ENTRIES, which the test writes before this text.

extern "C" int emulated_launch(const char* name, const unsigned* grid, unsigned threads,
                               size_t shared, void** arguments, int count) {
    for (const auto& entry : entries) {
        if (std::strcmp(entry.name, name) != 0) continue;
        if (entry.arguments != count) return 2;
        emulation::prepare(threads, shared);
        emulator.body = entry.run;
        emulator.arguments = arguments;
        gridDim = {grid[0], grid[1], 1};
        blockDim = {threads, 1, 1};
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                blockIdx = {x, y, 0};
                emulation::run_block();
            }
        return 0;
    }
    return 1;
}
