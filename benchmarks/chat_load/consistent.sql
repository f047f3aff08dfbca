-- What the triggers and foreign keys that rested in load.sql would refuse, a name a line; nothing is well.
SELECT 'rooms.last_seq and messages.seq disagree' FROM (
    SELECT r.last_seq, count(m.seq) AS messages, max(m.seq) AS newest
    FROM rooms AS r LEFT JOIN messages AS m ON m.room_id = r.id GROUP BY r.id
) AS counted
HAVING bool_or(last_seq IS DISTINCT FROM newest OR last_seq <> messages)
UNION ALL
SELECT 'messages without a room or user' FROM messages AS m
WHERE NOT EXISTS (SELECT FROM rooms WHERE id = m.room_id) OR NOT EXISTS (SELECT FROM users WHERE id = m.user_id)
HAVING count(*) > 0
UNION ALL
SELECT 'members without a room or user' FROM room_users AS m
WHERE NOT EXISTS (SELECT FROM rooms WHERE id = m.room_id) OR NOT EXISTS (SELECT FROM users WHERE id = m.user_id)
HAVING count(*) > 0
UNION ALL
SELECT 'read further than was written' FROM room_users AS m JOIN rooms AS r ON r.id = m.room_id
WHERE m.last_read_seq > r.last_seq HAVING count(*) > 0
UNION ALL
SELECT 'not :messages messages' FROM messages HAVING count(*) <> :messages;
