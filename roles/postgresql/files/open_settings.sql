-- What only a restart brings about (in check mode: would bring about), and what PostgreSQL cannot use.
SELECT 'restart' AS kind, setting.name
FROM pg_settings AS setting
LEFT JOIN json_each_text(%(wanted)s::json) AS wanted ON wanted.key = setting.name
WHERE setting.pending_restart
  OR (
    setting.context = 'postmaster' AND wanted.value IS NOT NULL
    AND NOT EXISTS (
      SELECT FROM pg_file_settings AS line WHERE line.name = setting.name AND line.setting = wanted.value
    )
  )
UNION ALL
SELECT 'error', wanted.key || ': no such setting'
FROM json_each_text(%(wanted)s::json) AS wanted
WHERE position('.' IN wanted.key) = 0
  AND NOT EXISTS (SELECT FROM pg_settings AS setting WHERE lower(setting.name) = lower(wanted.key))
UNION ALL
-- Of lines that this run replaces nothing is said.
SELECT 'error', line.name || ' = ' || line.setting || ': ' || line.error
FROM pg_file_settings AS line
JOIN json_each_text(%(wanted)s::json) AS wanted ON wanted.key = line.name AND wanted.value = line.setting
WHERE line.error <> 'setting could not be applied'
