DROP TABLE messages;
DROP FUNCTION assign_message_seq();
