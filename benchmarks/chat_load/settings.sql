-- The running server's numbers, sizes in MB.
SELECT
    name,
    ceil(setting::numeric * CASE unit WHEN 'kB' THEN 1 / 1024.0 WHEN '8kB' THEN 8 / 1024.0 ELSE 1 END)::int
FROM pg_settings WHERE vartype = 'integer' AND setting::numeric > 0 AND setting::numeric < 2000000000;
