exports.up = (knex) =>
  knex.schema.createTable('audit_logs', (table) => {
    table.increments('id');
    table.string('action', 64).notNullable();
    table.string('entity', 64).notNullable();
    table.integer('entity_id').notNullable();
    table.string('created_at', 24).notNullable();
  });

exports.down = (knex) => knex.schema.dropTable('audit_logs');
