# What can be done here. Each target is one line; the work is in dev/.
.PHONY: help demo test soak fuzz lint bench doc up down

help:   ; @sed -n '/^help/d; s/^\([a-z]*\): .* ## /  make \1\t/p' Makefile | expand -t 14
test:   ; @dev/test ## all tests, on real servers that are started and stopped for the run
soak:   ; @dev/soak ## the long tests: random histories of two hosts, kills, signals in 3 GB
fuzz:   ; @dev/fuzz ## each parser of foreign bytes, on a million mutated inputs
lint:   ; @dev/lint ## formatting, clippy, and cargo deny where it is installed
demo:   ; @dev/demo ## a loss and a recovery, from nothing, on this machine
bench:  ; @dev/bench ## speed and memory beside stock restic, then the benchmarks
doc:    ; @RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps ## the API documentation
up:     ; @dev/up ## start the test servers and leave them running
down:   ; @dev/down ## stop the servers that `make up` started
