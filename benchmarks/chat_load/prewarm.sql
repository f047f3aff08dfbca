-- All tables and indexes into shared_buffers, as far as they fit.
SELECT sum(pg_prewarm(oid)) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i');
