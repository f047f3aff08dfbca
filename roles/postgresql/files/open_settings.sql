-- What only a restart brings about, and what PostgreSQL cannot use.
-- wanted: the settings by name; none stands for those that the files hold. reloaded: false in check mode, where the
-- answer is a prediction, and under Patroni, which reloads in its own time and puts limits on the command line: the
-- server's own pending_restart knows nothing yet of what was not written or not reloaded.
WITH wanted (name, value) AS (
  SELECT key, value FROM json_each_text(%(wanted)s::json)
  UNION ALL
  (
    SELECT DISTINCT ON (name) name, setting FROM pg_file_settings
    WHERE %(wanted)s = '{}'
      OR name IN ('cluster_name', 'data_directory', 'external_pid_file', 'hba_file', 'ident_file') -- postgresql.conf's
    ORDER BY name, seqno DESC
  )
),

unit (name, amount) AS (
  VALUES ('B', 1::numeric), ('kB', 1024), ('8kB', 8192), ('MB', 1048576), ('GB', 1073741824), ('TB', 1099511627776),
    ('us', 1), ('ms', 1000), ('s', 1000000), ('min', 60000000), ('h', 3600000000), ('d', 86400000000)
),

-- 128MB is 16384 of 8kB, 1h is 60min, true is on: the wanted value in the form of pg_settings.setting.
spelled (name, value) AS (
  SELECT setting.name,
    CASE
      WHEN setting.vartype IN ('integer', 'real') AND part IS NOT NULL THEN
        round(
          part[1]::numeric * coalesce(given.amount / base.amount, 1), CASE setting.vartype WHEN 'real' THEN 9 ELSE 0 END
        )::float8::text
      WHEN setting.vartype = 'bool' OR 'on' = ANY (setting.enumvals) THEN
        CASE
          WHEN lower(wanted.value) IN ('true', 'yes', '1') THEN 'on'
          WHEN lower(wanted.value) IN ('false', 'no', '0') THEN 'off'
          ELSE lower(wanted.value)
        END
      WHEN setting.vartype = 'enum' THEN lower(wanted.value)
      ELSE wanted.value
    END
  FROM wanted
  JOIN pg_settings AS setting ON lower(setting.name) = lower(wanted.name)
  LEFT JOIN regexp_match(wanted.value, '^\s*([-+]?[0-9]*\.?[0-9]+)\s*([a-zA-Z]*)\s*$') AS part ON true
  LEFT JOIN unit AS given ON given.name = part[2]
  LEFT JOIN unit AS base ON base.name = setting.unit
),

waiting (name) AS (
  SELECT name FROM pg_settings WHERE %(reloaded)s AND pending_restart
  UNION ALL
  SELECT setting.name
  FROM pg_settings AS setting
  LEFT JOIN spelled ON spelled.name = setting.name
  WHERE NOT %(reloaded)s AND setting.context = 'postmaster'
    AND CASE
      -- Its line goes; patroni.conf's are Patroni's.
      WHEN spelled.name IS NULL THEN
        setting.source = 'configuration file' AND coalesce(setting.sourcefile, '') NOT LIKE '%%/patroni.conf'
      -- Many a default stands for a value that is found at the start, such as -1 of wal_buffers.
      WHEN spelled.value = setting.boot_val AND setting.source <> 'configuration file' THEN false
      WHEN setting.vartype IN ('integer', 'real') THEN spelled.value <> setting.setting::float8::text
      ELSE spelled.value <> setting.setting
    END
)

SELECT 'restart' AS kind, format(
  '%%s (%%s -> %%s)', name, coalesce(nullif(current_setting(name), ''), 'nothing'),
  coalesce((SELECT value FROM wanted WHERE lower(wanted.name) = lower(waiting.name) LIMIT 1), 'the default')
) AS name
FROM waiting
UNION ALL
SELECT 'error', wanted.name || ': no such setting'
FROM wanted
WHERE position('.' IN wanted.name) = 0
  AND NOT EXISTS (SELECT FROM pg_settings AS setting WHERE lower(setting.name) = lower(wanted.name))
UNION ALL
-- Of lines that this run replaces nothing is said, nor of those that are good and wait.
SELECT 'error', format(
  '%%s = %%s: %%s', line.name, line.setting,
  CASE line.error WHEN 'setting could not be applied' THEN 'not a value for it' ELSE line.error END
)
FROM pg_file_settings AS line
JOIN wanted ON lower(wanted.name) = lower(line.name) AND lower(wanted.value) = lower(line.setting)
LEFT JOIN pg_settings AS setting ON setting.name = line.name
WHERE line.error IS NOT NULL
  AND NOT (
    line.error = 'setting could not be applied' AND setting.context = 'postmaster'
    AND (setting.pending_restart OR NOT %(reloaded)s)
  )
