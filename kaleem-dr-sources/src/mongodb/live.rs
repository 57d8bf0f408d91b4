//! Tests of the inner parts against a live server, whose address is in `KALEEM_TEST_MONGO_URI`.
