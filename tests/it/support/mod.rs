//! Servers, seeds and stock tools for the tests.
