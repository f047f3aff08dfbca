-- A rollback drops what its migration made.
-- squawk-ignore-file ban-drop-table, ban-drop-function

SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '30s';

DROP TABLE messages;
DROP FUNCTION assign_message_seq();
