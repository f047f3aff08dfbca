-- The grants that the role rewind lacks: none when all is well.
WITH wanted (signature) AS (
  VALUES ('pg_catalog.pg_ls_dir(text, boolean, boolean)'), ('pg_catalog.pg_stat_file(text, boolean)'),
    ('pg_catalog.pg_read_binary_file(text)'), ('pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)')
)

SELECT 'GRANT CONNECT ON DATABASE postgres TO rewind' AS statement
WHERE NOT has_database_privilege('rewind', 'postgres', 'CONNECT')
UNION ALL
SELECT 'GRANT EXECUTE ON FUNCTION ' || signature || ' TO rewind'
FROM wanted
WHERE NOT has_function_privilege('rewind', signature, 'EXECUTE')
