//! The text of the kernels: one program of the files in `kernels/`, in CUDA C.

/// The whole program.
pub(super) fn source() -> String {
    FILES.concat()
}

const FILES: [&str; 9] = [
    include_str!("kernels/prelude.cu"),
    include_str!("kernels/rows.cu"),
    include_str!("kernels/norm.cu"),
    include_str!("kernels/feed_forward.cu"),
    include_str!("kernels/attention.cu"),
    include_str!("kernels/loss.cu"),
    include_str!("kernels/optimizer.cu"),
    include_str!("kernels/cache.cu"),
    include_str!("kernels/draw.cu"),
];

/// The names of the kernels in a program.
pub(super) fn names(source: &str) -> Vec<String> {
    let name = |after: &str| {
        let before_arguments = match after.trim_start().strip_prefix("__launch_bounds__(") {
            Some(rest) => rest.split_once(')').map_or("", |(_, rest)| rest),
            None => after,
        };
        before_arguments.split('(').next().unwrap_or_default().trim().to_owned()
    };
    source.split(MARK).skip(1).map(name).collect()
}

const MARK: &str = "extern \"C\" __global__ void ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_is_found_by_its_name() {
        let names = names(&source());
        assert_eq!(names.len(), source().matches("__global__").count());
        for expected in ["embed", "attention_forward", "draw"] {
            assert!(names.iter().any(|name| name == expected), "{names:?}");
        }
        assert!(names.iter().all(|name| name.chars().all(|c| c == '_' || c.is_ascii_lowercase())));
    }
}
