#!/bin/sh
# Lints what compiles on a Mac alone, on any machine with Rust: nothing is linked, so that neither Apple's SDK nor a C
# compiler for it is needed. Exits 3 where the target's standard library can't be had.
set -eu
cd "$(dirname "$0")/.."
target=aarch64-apple-darwin
rustup target list --installed | grep -qx "$target" || rustup target add "$target" || exit 3

# C parts of dependencies are never used here: a compiler that makes empty files will do.
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
cat >"$tools/empty-cc" <<'END'
#!/bin/sh
while [ $# -gt 0 ]; do
    case "$1" in -o) : >"$2" ;; esac
    shift
done
END
chmod +x "$tools/empty-cc"
cp "$tools/empty-cc" "$tools/xcrun"
export PATH="$tools:$PATH" CC_aarch64_apple_darwin=empty-cc AR_aarch64_apple_darwin=/bin/true SDKROOT=/
cargo clippy --quiet --locked --lib --bins --target "$target" -- -D warnings
cargo clippy --quiet --locked --lib --target "$target" --no-default-features -- -D warnings
