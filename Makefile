# The targets, one line each; the work is in dev/.
.PHONY: help demo test soak fuzz lint bench doc dist image up down

help:   ; @sed -n '/^help/d; s/^\([a-z]*\): .* ## /  make \1\t/p' Makefile | expand -t 14
test:   ; @dev/test ## all tests, on real servers that the run starts and stops
soak:   ; @dev/soak ## the long tests: random histories of two hosts, kills, signals in 3 GB
fuzz:   ; @dev/fuzz ## each parser of foreign data, on a million mutated inputs
lint:   ; @dev/lint ## formatting, clippy, API documentation, packaging, wording; cargo deny and semver-checks where installed
demo:   ; @dev/demo ## a loss and a recovery on this machine, from scratch
bench:  ; @dev/bench ## speed and memory compared with stock restic, then the benchmarks
doc:    ; @RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps ## the API documentation
dist:   ; @dev/dist ## packages of a release in dist/: .deb, .rpm, a static tarball, SBOM and checksums
image:  ; @packaging/docker/build ## a container image of the static program, with the Docker engine of this machine
up:     ; @dev/up ## start the test servers and leave them running
down:   ; @dev/down ## stop the servers that `make up` started
